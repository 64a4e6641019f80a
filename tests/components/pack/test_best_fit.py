"""Packing from lengths: every id accounted for, rows never overfull, little padded or cropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.pack.best_fit import Packed, pack_alone, pack_best_fit

sizes_strategy = st.lists(st.integers(2, 70), min_size=1, max_size=40)
Pack = Callable[[np.ndarray, np.ndarray, int], Packed]


def packed_of(pack: Pack, sizes: list[int], length: int) -> tuple[Packed, list[list[tuple[int, int]]]]:
    """The result, and its rows as lists of (position, size)."""
    ends = np.cumsum(sizes)
    packed = pack(ends - sizes, np.array(sizes), length)
    slices = iter(zip(packed.positions, packed.sizes, strict=True))
    return packed, [[next(slices) for _ in range(count)] for count in packed.counts]


@pytest.mark.parametrize("pack", [pack_best_fit, pack_alone])
@given(sizes=sizes_strategy, length=st.integers(2, 24))
def test_every_id_is_used_or_counted_as_cropped(pack: Pack, sizes: list[int], length: int):
    packed, rows = packed_of(pack, sizes, length)
    used = {place for row in rows for start, size in row for place in range(start, start + size)}
    assert packed.used == len(used)
    assert packed.used + packed.cropped == sum(sizes)


@pytest.mark.parametrize("pack", [pack_best_fit, pack_alone])
@given(sizes=sizes_strategy, length=st.integers(2, 24))
def test_no_row_is_overfull_and_what_is_free_is_counted(pack: Pack, sizes: list[int], length: int):
    packed, rows = packed_of(pack, sizes, length)
    free = [length + 1 - sum(size for _, size in row) for row in rows]
    assert min(free) >= 0
    assert sum(free) == packed.padding


@pytest.mark.parametrize("pack", [pack_best_fit, pack_alone])
@given(sizes=sizes_strategy, length=st.integers(2, 24))
def test_every_id_that_follows_another_of_its_document_is_a_target_at_most_once(
    pack: Pack, sizes: list[int], length: int
):
    packed, rows = packed_of(pack, sizes, length)
    begins = set((np.cumsum(sizes) - sizes).tolist())
    targets: Counter[int] = Counter()
    for row, told in zip(rows, packed.targets, strict=True):
        scored = [place for start, size in row for place in range(start + 1, start + size)]
        starts = [start for start, _ in row[1:] if start in begins]
        assert told == len(scored) + len(starts)
        targets.update(scored)
    assert set(targets.values()) <= {1}
    assert len(targets) + packed.cropped == sum(sizes) - len(sizes)


@given(sizes=sizes_strategy, length=st.integers(2, 24))
def test_rows_of_their_own_lose_nothing(sizes: list[int], length: int):
    packed, rows = packed_of(pack_alone, sizes, length)
    assert packed.cropped == 0
    assert all(len(row) == 1 for row in rows)


@given(sizes=st.lists(st.integers(2, 25), min_size=1, max_size=40))
def test_documents_that_fit_into_a_row_are_not_cut_in_two(sizes: list[int]):
    _, rows = packed_of(pack_best_fit, sizes, 24)
    begins = set((np.cumsum(sizes) - sizes).tolist())
    assert all(start in begins for row in rows for start, _ in row)
    assert sum(map(len, rows)) == len(sizes)


def test_an_ordinary_corpus_loses_little():
    """Log-normal lengths, as web pages have: nanochat's best-fit crop loses a third."""
    draw = np.random.default_rng(1)
    sizes = np.maximum(2, draw.lognormal(6.3, 1.1, 20_000)).astype(int).tolist()
    packed, _ = packed_of(pack_best_fit, sizes, 2048)
    assert packed.cropped / sum(sizes) < 0.001
    assert packed.padding / sum(sizes) < 0.001


def test_a_gap_is_padded_where_cropping_would_lose_more_than_it_keeps():
    packed, _ = packed_of(pack_best_fit, [7, 7], 9)
    assert (packed.cropped, packed.padding) == (0, 6)
    packed, _ = packed_of(pack_best_fit, [6, 5], 9)
    assert (packed.cropped, packed.padding) == (1, 0)
