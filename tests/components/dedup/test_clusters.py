"""Candidates, clusters and winners, against plain definitions and in any order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dedup.clusters import UnionFind, candidate_pairs, exact_copies, judge

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


@given(PAIRS)
def test_sets_are_the_connected_components_named_by_their_least_member(pairs: list[tuple[int, int]]) -> None:
    sets = UnionFind(20)
    for pair in pairs:
        sets.union(*pair)
    label = list(range(20))
    for _ in range(20):
        for first, second in pairs:
            label[first] = label[second] = min(label[first], label[second])
    assert [sets.find(member) for member in range(20)] == label


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=15))
def test_candidates_are_all_pairs_that_agree_in_a_band(bands: list[list[int]]) -> None:
    expected = {
        (i, j)
        for j in range(len(bands))
        for i in range(j)
        if any(a == b for a, b in zip(bands[i], bands[j], strict=True))
    }
    found = candidate_pairs(np.array(bands, dtype=np.uint64), list(range(len(bands))))
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_candidates_go_by_rank_and_not_by_place() -> None:
    found = candidate_pairs(np.array([[7], [8], [7]], dtype=np.uint64), [3, 5, 9])
    assert found.tolist() == [[3, 9]]


@pytest.mark.parametrize("size", [21, 500])
def test_a_large_bucket_stays_connected_without_all_its_pairs(size: int) -> None:
    found = candidate_pairs(np.zeros((size, 2), dtype=np.uint64), list(range(size))).tolist()
    sets = UnionFind(size)
    for first, second in found:
        sets.union(first, second)
    assert len(found) < 2 * size
    assert {sets.find(member) for member in range(size)} == {0}


def test_no_documents_make_no_candidates() -> None:
    assert candidate_pairs(np.zeros((0, 0), dtype=np.uint64), []).tolist() == []


def test_exact_copies_go_for_the_best_with_their_digest() -> None:
    assert exact_copies([b"x", b"y", b"x", b"x", b"y", b"z"]) == {2: 0, 3: 0, 4: 1}


def test_a_chain_of_similar_documents_leaves_the_best_and_tells_the_closest() -> None:
    verdicts = judge(5, {}, [(1, 2, 0.9), (2, 3, 0.6)])
    assert {rank: (one.rule, one.similarity, one.winner) for rank, one in verdicts.items()} == {
        2: ("near_duplicate", 0.9, 1),
        3: ("near_duplicate", 0.6, 1),
    }


def test_a_copy_of_a_document_that_goes_itself_names_the_one_that_stays() -> None:
    verdicts = judge(4, {3: 2}, [(0, 2, 0.8)])
    assert (verdicts[3].rule, verdicts[3].winner, verdicts[2].winner) == ("exact_duplicate", 0, 0)


@given(PAIRS, st.integers(0, 99))
def test_verdicts_do_not_depend_on_the_order_of_pairs(pairs: list[tuple[int, int]], seed: int) -> None:
    edges = [(*pair, 0.3 + (pair[0] * 7 + pair[1]) % 10 / 15) for pair in set(pairs) if pair[0] < pair[1]]
    assert judge(20, {}, edges) == judge(20, {}, random.Random(seed).sample(edges, len(edges)))
