"""Whose turn it is: a fair order of groups with given weights, never a whole sample off.

After n samples a group of weight w (of a total of W) ought to have had n * w / W of them. Taking whoever is furthest
behind (largest deficit) keeps no such bound with many groups: a group may fall more than one sample behind. Here
each sample has a window instead: the j-th of a group may not come before slot floor(j * W / w) and not after slot
ceil((j + 1) * W / w) - 1, and of those that may come the one that must come first is taken (Pfair scheduling: Baruah,
Cohen, Plaxton and Varvel 1996; earliest deadline first is enough on one machine). So at every sample every group has
its share to within less than one sample, proven and tested.

With whole weights the order repeats after W samples, when all shares are exact. One round is a table, and any sample of
a run is a look-up: nothing is counted, so nothing needs saving.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.shards.corpus import IntArray


@dataclass(frozen=True)
class Round:
    """One round of turns.

    Attributes:
        weights: Samples of each group in a round.
        groups: Whose turn each slot is; int32 [sum of weights].
        ranks: How many slots of the same group come before in the round; int64 [sum of weights].
        slots: The slots of each group, ascending.
    """

    weights: tuple[int, ...]
    groups: NDArray[np.int32]
    ranks: IntArray
    slots: tuple[IntArray, ...]

    def at(self, samples: IntArray) -> tuple[NDArray[np.int32], IntArray]:
        """Group of each sample since the start, and how many samples of that group came before it."""
        rounds, slots = np.divmod(samples, len(self.groups))
        groups = self.groups[slots]
        return groups, rounds * np.array(self.weights)[groups] + self.ranks[slots]

    def counts(self, samples: int) -> IntArray:
        """How many of the first `samples` samples each group has had."""
        rounds, slots = divmod(samples, len(self.groups))
        begun = np.bincount(self.groups[:slots], minlength=len(self.weights))
        return rounds * np.array(self.weights, dtype=np.int64) + begun

    def when(self, group: int, counts: IntArray) -> IntArray:
        """The samples that are a group's `counts`-th ones, counted from 0."""
        rounds, ranks = np.divmod(counts, self.weights[group])
        return rounds * len(self.groups) + self.slots[group][ranks]


@lru_cache(maxsize=16)
def round_of(weights: tuple[int, ...]) -> Round:
    """Finds the turns of one round.

    Args:
        weights: Whole weight of each group, all above 0.
    """
    total = sum(weights)
    groups = np.empty(total, dtype=np.int32)
    ready: list[tuple[int, int, int]] = []  # deadline, group, number
    waiting = [(0, group, 0) for group in range(len(weights))]  # first slot, group, number
    for slot in range(total):
        while waiting and waiting[0][0] <= slot:
            _, group, number = heapq.heappop(waiting)
            heapq.heappush(ready, (-(-(number + 1) * total // weights[group]), group, number))
        _, group, number = heapq.heappop(ready)
        groups[slot] = group
        if number + 1 < weights[group]:
            heapq.heappush(waiting, ((number + 1) * total // weights[group], group, number + 1))
    slots = tuple(np.flatnonzero(groups == group) for group in range(len(weights)))
    ranks = np.empty(total, dtype=np.int64)
    for places in slots:
        ranks[places] = np.arange(len(places))
    return Round(weights, groups, ranks, slots)
