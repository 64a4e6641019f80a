"""Whole parameters out of partitions: every element comes back to its place, however it was cut."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from components.training.partitions import spread_flat, spread_split, take

SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=6)
RANKS, CHUNKS = st.integers(1, 5), st.integers(1, 30)


def put_together(partitions, spreads, sizes, chunk):
    """As `collect` does, with the partitions of all ranks at hand."""
    wholes = [torch.full((size,), -1.0) for size in sizes]
    for begin in range(0, partitions.shape[1], chunk):
        for spread, whole in zip(spreads, wholes, strict=True):
            take(partitions[:, begin : begin + chunk], begin, spread, whole)
    return wholes


@given(SIZES, RANKS, CHUNKS, st.integers(0, 9))
def test_a_flat_group_that_was_cut_into_partitions_comes_back_whole(sizes, ranks, chunk, gap):
    parameters = [torch.rand(size) for size in sizes]
    offsets = [sum(sizes[:index]) + index * gap for index in range(len(sizes))]
    length = -(-(sum(sizes) + len(sizes) * gap) // ranks)
    flat = torch.zeros(ranks * length)
    for parameter, offset in zip(parameters, offsets, strict=True):
        flat[offset : offset + len(parameter)] = parameter
    spreads = [spread_flat(size, offset, length, ranks) for size, offset in zip(sizes, offsets, strict=True)]
    wholes = put_together(flat.view(ranks, length), spreads, sizes, chunk)
    assert all(torch.equal(*pair) for pair in zip(wholes, parameters, strict=True))


@given(SIZES, RANKS, CHUNKS)
def test_parameters_that_were_cut_one_by_one_come_back_whole(sizes, ranks, chunk):
    parameters = [torch.rand(size) for size in sizes]
    pieces = [-(-size // ranks) for size in sizes]
    partitions = torch.zeros(ranks, sum(pieces))
    offsets = [sum(pieces[:index]) for index in range(len(sizes))]
    for parameter, offset, piece in zip(parameters, offsets, pieces, strict=True):
        padded = torch.zeros(ranks * piece)
        padded[: len(parameter)] = parameter
        partitions[:, offset : offset + piece] = padded.view(ranks, piece)
    spreads = [spread_split(*one, ranks) for one in zip(sizes, offsets, pieces, strict=True)]
    wholes = put_together(partitions, spreads, sizes, chunk)
    assert all(torch.equal(*pair) for pair in zip(wholes, parameters, strict=True))
