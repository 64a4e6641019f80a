"""Signatures: the same for the same set, and agreeing as often as the theory says for similar ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.sketch.minhash import MinHasher

SETS = st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=300)


def array(members: set[int]) -> np.ndarray:
    return np.array(sorted(members), dtype=np.uint32)


@given(SETS, st.integers(1, 40), st.integers(1, 8))
def test_a_set_of_any_size_has_one_hash_a_band_the_same_every_time(members: set[int], bands: int, rows: int) -> None:
    first = MinHasher(bands, rows).bands_of(array(members))
    assert first.shape == (bands,)
    hasher = MinHasher(bands, rows)
    hasher.bands_of(array({7}))  # what was hashed before does not matter
    assert (hasher.bands_of(array(members)) == first).all()


def test_a_set_of_one_fills_all_bins_by_borrowing() -> None:
    assert len(MinHasher(200, 10).bands_of(array({12345}))) == 200


def test_other_sets_have_other_hashes() -> None:
    hasher = MinHasher(20, 5)
    assert not (hasher.bands_of(array({1, 2, 3})) == hasher.bands_of(array({4, 5, 6}))).any()


@pytest.mark.parametrize("size", [40, 150, 2000])
@pytest.mark.parametrize(("similarity", "low", "high"), [(0.3, 0.25, 0.35), (0.6, 0.55, 0.65), (0.9, 0.87, 0.93)])
def test_values_agree_as_often_as_the_sets_are_similar(size: int, similarity: float, low: float, high: float) -> None:
    draw = np.random.default_rng(size)
    hasher = MinHasher(250, 1)
    shared = round(2 * size * similarity / (1 + similarity))
    agreed = []
    for _ in range(60):
        pool = draw.permutation(np.unique(draw.integers(0, 1 << 32, 3 * size, dtype=np.uint32)))
        one = np.sort(pool[:size])
        two = np.sort(np.concatenate((pool[:shared], pool[size : 2 * size - shared])))
        agreed.append((hasher.bands_of(one) == hasher.bands_of(two)).mean())
    assert low < float(np.mean(agreed)) < high
