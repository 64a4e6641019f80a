"""Which ranks work together: groups that share sequences or matrices, and what of the data a rank reads.

Ranks that share are neighbours, as the links between them are busiest. To everything that deals with data, such a group
is one rank: `Place.rank` of `Place.world_size`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

from components.context import Rank
from components.training.config import TrainingConfig


@dataclass(frozen=True)
class Place:
    """Where a process stands.

    Attributes:
        rank: Number of its group among those that read data of their own.
        world_size: Number of such groups.
        leads: Whether it speaks for its group in sums: what all of a group know counts once.
        group: The ranks it shares with; None if it is alone.
    """

    rank: int
    world_size: int
    leads: bool = True
    group: dist.ProcessGroup | None = None


def find_place(config: TrainingConfig, rank: Rank) -> Place:
    """The place of a rank. Collective where ranks share: it makes the groups."""
    size = config.sequence_parallel * config.tensor_parallel
    if size == 1:
        return Place(rank.rank, rank.world_size)
    members = [range(first, first + size) for first in range(0, rank.world_size, size)]
    groups = [dist.new_group(list(ranks)) for ranks in members]  # every rank makes every group
    mine = rank.rank // size
    return Place(mine, len(groups), rank.rank % size == 0, groups[mine])
