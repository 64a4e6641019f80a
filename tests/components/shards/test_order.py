"""Mixtures: what a change of weights moves (what comes after it) and what not (everything else)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.context import local_context
from components.errors import StepError
from components.pack.config import PackConfig
from components.pack.step import pack
from components.shards.config import MixtureConfig
from components.shards.loader import Loader
from components.shards.order import Order
from components.shards.plan import Plan, Runs
from components.shards.prefetch import Prefetcher
from components.shards.schedule import Schedule
from tests.components.shards.toy import Toy, in_language, varied, write_tokens

BATCH = 4


@dataclass(frozen=True)
class World:
    """Tokens in two languages, packed by language."""

    tokens: Path
    plan: Path


def make_world(folder: Path, toys: Sequence[Toy], **changes: object) -> World:
    tokens = write_tokens(folder / "tokens", train=[toys[: len(toys) // 2], toys[len(toys) // 2 :]])
    config = PackConfig(**({"length": 16, "group": "lang"} | changes))
    ctx = local_context("pack", folder / "pack")
    pack(ctx, config, tokens)
    return World(tokens, ctx.output)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), varied(400, 3, langs=("en", "zh", "de")))


def order_of(sizes: dict[str, int], mixture: MixtureConfig, seed: int = 1) -> Order:
    empty = np.zeros(0, dtype=np.int64)
    plan = Plan(1, {name: Runs(1, np.array([0, size + 1]), empty) for name, size in sizes.items()})
    return Order(plan, Schedule(seed, BATCH, 1, mixture))


def by_group(order: Order, samples: int) -> dict[str, list[int]]:
    groups, rows = order.rows(0, samples)
    return {name: rows[groups == number].tolist() for number, name in enumerate(order.names)}


weights_of_three = st.fixed_dictionaries({name: st.integers(0, 9).map(str) for name in "abc"}).filter(
    lambda weights: any(weight != "0" for weight in weights.values())
)
changes_strategy = st.dictionaries(
    st.integers(1, 60).map(str), weights_of_three.map(lambda w: ",".join(f"{k}={v}" for k, v in w.items())), max_size=3
)
sizes_strategy = st.fixed_dictionaries({name: st.integers(3, 30) for name in "abc"})


@given(sizes=sizes_strategy, weights=weights_of_three, changes=changes_strategy)
def test_every_group_goes_through_all_its_rows_before_any_comes_again(
    sizes: dict[str, int], weights: dict[str, str], changes: dict[str, str]
):
    order = order_of(sizes, MixtureConfig(weights, changes))
    for name, rows in by_group(order, 240).items():
        for start in range(0, len(rows), sizes[name]):
            epoch = rows[start : start + sizes[name]]
            assert len(set(epoch)) == len(epoch)


@given(sizes=sizes_strategy, weights=weights_of_three, changes=changes_strategy)
def test_the_mixture_is_within_one_sample_of_its_target_since_the_last_change(
    sizes: dict[str, int], weights: dict[str, str], changes: dict[str, str]
):
    mixture = MixtureConfig(weights, changes)
    order = order_of(sizes, mixture)
    groups, _ = order.rows(0, 400)
    stretches = mixture.stretches()
    for (start, whole), (end, _) in zip(stretches, [*stretches[1:], (100, {})], strict=True):
        total, counts = sum(whole.values()), dict.fromkeys(order.names, 0)
        for done, group in enumerate(groups[start * BATCH : end * BATCH].tolist(), start=1):
            counts[order.names[group]] += 1
            off = [abs(counts[name] - Fraction(done * whole.get(name, 0), total)) for name in order.names]
            assert max(off) < 1


@given(sizes=sizes_strategy, weights=weights_of_three, later=weights_of_three, step=st.integers(1, 60))
def test_a_change_at_a_step_moves_nothing_before_it_and_no_order_within_a_group(
    sizes: dict[str, int], weights: dict[str, str], later: dict[str, str], step: int
):
    text = ",".join(f"{name}={weight}" for name, weight in later.items())
    plain, changed = (order_of(sizes, MixtureConfig(weights, change)) for change in ({}, {str(step): text}))
    before = [order.rows(0, step * BATCH) for order in (plain, changed)]
    assert [array.tolist() for array in before[0]] == [array.tolist() for array in before[1]]
    one, other = by_group(plain, 400), by_group(changed, 400)
    for name in sizes:
        shared = min(len(one[name]), len(other[name]))
        assert one[name][:shared] == other[name][:shared]


@given(sizes=sizes_strategy, step=st.integers(1, 60))
def test_a_group_that_joins_moves_no_other_groups_order(sizes: dict[str, int], step: int):
    few = {name: size for name, size in sizes.items() if name != "b"}
    plain = order_of(few, MixtureConfig({"a": "2", "c": "1"}))
    joined = order_of(sizes, MixtureConfig({"a": "2", "c": "1"}, {str(step): "a=1,b=2,c=1"}))
    one, other = by_group(plain, 400), by_group(joined, 400)
    for name in few:
        shared = min(len(one[name]), len(other[name]))
        assert one[name][:shared] == other[name][:shared]
    assert len(other["b"]) >= (400 - step * BATCH) // 2 - 1


@given(
    sizes=sizes_strategy,
    weights=st.one_of(st.just({}), weights_of_three),
    changes=changes_strategy,
    samples=st.integers(0, 150),
)
def test_the_order_can_be_walked_backwards(
    sizes: dict[str, int], weights: dict[str, str], changes: dict[str, str], samples: int
):
    order = order_of(sizes, MixtureConfig(weights, changes if weights else {}))
    groups, rows = order.rows(0, 150)
    for number, name in enumerate(order.names):
        for row in range(sizes[name]):
            expected = np.flatnonzero((groups == number) & (rows == row))
            assert order.samples(number, row, samples) == expected[expected < samples].tolist()


def test_rows_do_not_depend_on_how_many_are_asked_for_at_once(world: World):
    loader = Loader.open(world.tokens, Schedule(7, 600, 16, MIXED), world.plan)
    whole = loader.batch(2)
    for size in (1, 37, 128, 599):
        parts = [loader.batch(2, low, min(low + size, 600)) for low in range(0, 600, size)]
        for name in ("ids", "targets", "documents", "positions"):
            assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(whole, name).tolist()


def test_a_group_that_is_not_there_or_fills_no_row_is_refused_by_name():
    with pytest.raises(StepError, match="group fr, which is not in the plan"):
        order_of({"en": 3}, MixtureConfig({"en": "1", "fr": "1"}))
    with pytest.raises(StepError, match="group zh, which fills no row"):
        order_of({"en": 3, "zh": 0}, MixtureConfig({"en": "1"}, {"7": "zh=1"}))


def test_rows_packed_for_another_length_are_refused(world: World):
    with pytest.raises(StepError, match="packed for 16 tokens and 32 are asked for"):
        Loader.open(world.tokens, Schedule(1, BATCH, 32), world.plan)


def test_a_plan_of_other_tokens_is_refused(world: World, tmp_path: Path):
    other = make_world(tmp_path, varied(50, 9))
    with pytest.raises(StepError, match="made of other tokens"):
        Loader.open(world.tokens, Schedule(1, BATCH, 16), other.plan)


MIXED = MixtureConfig({"en": "0.5", "zh": "0.3", "de": "0.2"}, {"9": "en=1,zh=1"})


@pytest.fixture(scope="module", params=["concat", "best_fit", "document"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    toys = varied(400, 3, langs=("en", "zh", "de"))
    return make_world(tmp_path_factory.mktemp("packed"), toys, strategy=request.param, repeat="sqrt")


def test_the_tokens_do_not_depend_on_ranks_or_workers(packed: World):
    hashes = {hash_by_row(packed, size, workers) for size in (1, 2, 3, 4) for workers in (0, 1, 2)}
    assert len(hashes) == 1


def hash_by_row(world: World, world_size: int = 1, workers: int = 0) -> str:
    """Hash of 24 steps, row by row, the ranks of a step one after the other."""
    batch, digest, share = 12, hashlib.sha256(), 12 // world_size
    loader = Loader.open(world.tokens, Schedule(7, batch, 16, MIXED), world.plan)
    readers = [
        Prefetcher(lambda step, rank=rank: loader.batch(step, rank * share, (rank + 1) * share), workers)
        for rank in range(world_size)
    ]
    for step in range(24):
        for rows in (reader.get(step) for reader in readers):
            for line in range(share):
                for array in (rows.tokens, rows.targets, rows.documents, rows.positions):
                    digest.update(array[line].tobytes())
    for reader in readers:
        reader.close()
    return digest.hexdigest()


def test_the_scored_targets_of_a_step_are_known_without_reading_it(packed: World):
    loader = Loader.open(packed.tokens, Schedule(7, 12, 16, MIXED), packed.plan)
    for step in range(24):
        rows = loader.batch(step)
        assert loader.num_targets(step) == int(rows.loss_mask.sum()) == int((rows.targets != -100).sum())


def test_without_weights_all_groups_share_one_order(world: World):
    loader = Loader.open(world.tokens, Schedule(7, BATCH, 16), world.plan)
    groups, rows = loader.order.rows(0, loader.num_rows)
    pairs = set(zip(groups.tolist(), rows.tolist(), strict=True))
    assert len(pairs) == loader.num_rows == sum(rows.num_rows for rows in loader.plan.groups.values())
    assert len(set(groups[: loader.num_rows // 2].tolist())) == 3


def test_a_mixture_only_reads_the_groups_it_names(world: World, tmp_path: Path):
    toys = [*in_language(varied(60, 1), "en"), *(Toy([5000] * 30, "zh") for _ in range(60))]
    one = make_world(tmp_path, toys)
    loader = Loader.open(one.tokens, Schedule(7, BATCH, 16, MixtureConfig({"zh": "1"})), one.plan)
    ids = np.concatenate([loader.batch(step).ids for step in range(40)])
    assert set(np.unique(ids).tolist()) == {1, 2, 5000}
