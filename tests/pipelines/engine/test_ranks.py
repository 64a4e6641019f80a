"""Ranks are numbered as torch and DeepSpeed expect, on any layout of nodes and GPUs."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.ranks import Spot, numbered, seated


def spots(layout: list[tuple[str, int | None]]) -> list[Spot]:
    return [
        Spot(node, f"10.0.0.{node}", () if gpu is None else (str(gpu),), 5000 + index)
        for index, (node, gpu) in enumerate(layout)
    ]


def test_ranks_on_one_machine_meet_on_loopback():
    seats = [seat for seat, _ in seated(spots([("1", None), ("1", None)]))]
    assert [(s.rank, s.local_rank, s.world_size, s.local_world_size) for s in seats] == [(0, 0, 2, 2), (1, 1, 2, 2)]
    assert {(s.address, s.port) for s in seats} == {("127.0.0.1", 5000)}


def test_ranks_on_several_machines_meet_at_rank_0():
    assert {(seat.address, seat.port) for seat, _ in seated(spots([("7", None), ("8", None)]))} == {("10.0.0.7", 5000)}


def test_a_ranks_gpu_is_the_one_of_its_local_number_among_all_of_the_machine():
    found = spots([("1", 10), ("2", 0), ("1", 9), ("2", 3)])
    order = numbered(found)
    assert order == [2, 0, 1, 3]
    for (seat, visible), index in zip(seated([found[index] for index in order]), order, strict=True):
        assert visible[seat.local_rank] == found[index].gpus[0]
    assert [visible for _, visible in seated([found[index] for index in order])] == [("9", "10")] * 2 + [("0", "3")] * 2


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=12), st.randoms())
def test_numbers_are_complete_and_machines_stay_together(nodes: list[str], random):
    gpus = {node: random.sample(range(16), nodes.count(node)) for node in set(nodes)}
    found = spots([(node, gpus[node].pop()) for node in nodes])
    order = numbered(found)
    assert sorted(order) == list(range(len(nodes)))
    seats = [seat for seat, _ in seated([found[index] for index in order])]
    assert [seat.rank for seat in seats] == list(range(len(nodes)))
    placed = [found[index].node for index in order]
    assert len([1 for one, other in itertools.pairwise(placed) if one != other]) == len(set(nodes)) - 1
    for node in set(nodes):
        local = [seat.local_rank for seat, where in zip(seats, placed, strict=True) if where == node]
        assert local == list(range(nodes.count(node)))
