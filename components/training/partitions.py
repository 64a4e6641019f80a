"""Where the elements of a parameter lie under ZeRO, and whole parameters out of the partitions of all ranks.

A rank's optimizer steps flat tensors, its partitions, each of which holds pieces of many parameters. Collecting what
they hold parameter by parameter, as DeepSpeed offers, costs a message each, at stages 1 and 2 a sum of zeros over all
ranks at that. Here partitions travel as they are, in few large messages, and are taken apart where they are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

MESSAGE = 2**25
"""Elements of all ranks together that travel at a time: all that a rank needs beside its own, 128 MiB."""


@dataclass(frozen=True)
class Spread:
    """Where the elements of one flattened parameter lie; each tuple is by rank.

    Attributes:
        offsets: Where the rank's piece begins in its partition.
        starts: The first element of the parameter in the piece.
        sizes: How many there are.
    """

    offsets: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def spread_flat(size: int, offset: int, partition_size: int, world_size: int) -> Spread:
    """Stages 1 and 2: a group of parameters is one flat tensor, cut into equal partitions.

    Args:
        size: Elements of the parameter.
        offset: Where it begins in the group.
        partition_size: Elements of a partition.
        world_size: Ranks.
    """
    edges = [min(max(rank * partition_size - offset, 0), size) for rank in range(world_size + 1)]
    offsets = tuple(max(offset - rank * partition_size, 0) for rank in range(world_size))
    return Spread(offsets, tuple(edges[:-1]), tuple(end - start for start, end in itertools.pairwise(edges)))


def spread_split(size: int, offset: int, piece: int, world_size: int) -> Spread:
    """Stage 3: every parameter is cut into equal pieces of its own, the last one padded.

    Args:
        size: Elements of the parameter.
        offset: Where the piece begins in the partition, on every rank.
        piece: Elements of a piece.
        world_size: Ranks.
    """
    starts = tuple(min(rank * piece, size) for rank in range(world_size))
    return Spread((offset,) * world_size, starts, tuple(min(piece, size - start) for start in starts))


def collect(
    partition: Tensor,
    spreads: Sequence[Spread],
    wholes: Sequence[Tensor],
    group: dist.ProcessGroup | None,
    device: torch.device,
) -> None:
    """Fills whole parameters with what the partitions of all ranks hold. Collective.

    Args:
        partition: This rank's, as long as that of every other.
        spreads: Where each parameter lies.
        wholes: As many flat tensors on the CPU to fill; none on a rank that only takes part.
        group: The ranks.
        device: Where they exchange; an offloaded partition lies elsewhere.
    """
    world_size = dist.get_world_size(group)
    length = max(1, MESSAGE // world_size)
    for begin in range(0, partition.numel(), length):
        mine = partition[begin : begin + length].to(device)
        chunks = mine.new_empty(world_size * mine.numel())
        dist.all_gather_into_tensor(chunks, mine, group=group)
        if wholes:
            parts = chunks.to("cpu").view(world_size, -1)
            for spread, whole in zip(spreads, wholes, strict=True):
                take(parts, begin, spread, whole)


def take(parts: Tensor, begin: int, spread: Spread, whole: Tensor) -> None:
    """Copies what a parameter has in the elements from `begin` on of every rank's partition; a row for each rank."""
    for part, offset, start, size in zip(parts, spread.offsets, spread.starts, spread.sizes, strict=True):
        low, high = max(offset, begin), min(offset + size, begin + len(part))
        if low < high:
            whole[start + low - offset : start + high - offset] = part[low - begin : high - begin]
