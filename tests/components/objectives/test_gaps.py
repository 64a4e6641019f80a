"""Gaps: nothing is lost, what goes and how much of it is as T5 says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.objectives.counts import num_gaps
from components.objectives.gaps import cut_gaps
from components.objectives.pairs import PADDING, lay_out_pairs
from components.tokenizer.special import BOS, EOS, MASK, PAD


def filled(source, target, spans: int) -> list[int]:
    """Puts the spans of a target back into their gaps."""
    starts = [target.tolist().index(MASK + number) for number in range(spans)] + [len(target) - 1]
    parts = {MASK + number: target[low + 1 : high].tolist() for number, (low, high) in enumerate(pairwise(starts))}
    return [token for index in source.tolist() for token in parts.get(index, [index])]


@given(st.integers(2, 120), st.floats(0.05, 0.8), st.floats(1, 6), st.integers(0, 1000))
def test_the_target_fills_the_gaps_of_the_source(length, density, mean_length, seed):
    ids = np.arange(1000, 1000 + length)
    source, target = cut_gaps(ids, density, mean_length, np.random.default_rng(seed))
    noise, spans = num_gaps(length, density, mean_length)
    assert filled(source, target, spans) == ids.tolist()
    assert target[-1] == EOS
    assert (len(source), len(target)) == (length - noise + spans, noise + spans + 1)
    assert source[0] == 1000  # a row begins with what stays
    assert target[0] == MASK


def test_the_numbers_are_those_of_the_paper():
    assert num_gaps(512, 0.15, 3.0) == (77, 26)
    assert num_gaps(2, 0.9, 3.0) == (1, 1)


def test_gaps_lie_everywhere():
    ids = np.arange(1000, 1064)
    gone = np.zeros(64)
    for seed in range(400):
        source, _ = cut_gaps(ids, 0.15, 3.0, np.random.default_rng(seed))
        gone += ~np.isin(ids, source)
    assert gone[0] == 0
    assert gone[1:].min() > 8


def test_pairs_are_padded_and_what_is_padding_is_neither_seen_nor_scored():
    batch = lay_out_pairs([[10, 11, 12], [13]], [[20, EOS], [21, 22, 23, EOS]])
    assert batch["sources_BS"].tolist() == [[10, 11, 12], [13, PAD, PAD]]
    assert batch["source_segments_BS"].tolist() == [[0, 0, 0], [0, PADDING, PADDING]]
    assert batch["tokens_BT"].tolist() == [[BOS, 20, PAD, PAD], [BOS, 21, 22, 23]]
    assert batch["targets_BT"].tolist() == [[20, EOS, -100, -100], [21, 22, 23, EOS]]
    wide = lay_out_pairs([[10]], [[20, EOS]], (5, 4))
    assert {name: tuple(tensor.shape) for name, tensor in wide.items()} == {
        "sources_BS": (1, 5),
        "source_segments_BS": (1, 5),
        "tokens_BT": (1, 4),
        "targets_BT": (1, 4),
    }
    assert all(tensor.dtype == torch.int64 for tensor in wide.values())
