"""From sketches to verdicts: who meets whom, who is alike, and which one of a cluster stays.

Documents are numbers here, by rank: 0 is the best of the corpus under a total order (most letters, then fewest marks,
then URL, then id). So the winner of any set is its least number, and nothing depends on the order in which documents,
shards or pairs come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.dedup.minhash import BandHashes

Pairs = NDArray[np.int64]

# In a bucket larger than this not everyone is compared with everyone: each is with the best and with its neighbours.
_ALL_PAIRS = 20


@dataclass(frozen=True)
class Verdict:
    """Why a document goes.

    Attributes:
        rule: `exact_duplicate` or `near_duplicate`.
        similarity: Jaccard similarity with the most similar document that it was compared with; 1 if exact.
        winner: Rank of the document that stays for it.
    """

    rule: str
    similarity: float
    winner: int


class UnionFind:
    """Disjoint sets of numbers; a set's name is its least member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        """The least member of the set a number is in."""
        root = member
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[member] != root:
            self._parent[member], member = root, self._parent[member]
        return root

    def union(self, first: int, second: int) -> None:
        """Makes two sets one."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low


def exact_copies(digests: Sequence[bytes]) -> dict[int, int]:
    """For each document whose digest a better one has: the best of those. `digests` are by rank."""
    best: dict[bytes, int] = {}
    return {rank: first for rank, digest in enumerate(digests) if (first := best.setdefault(digest, rank)) != rank}


def candidate_pairs(bands: BandHashes, ranks: Sequence[int]) -> Pairs:
    """Pairs of documents that agree in a band.

    Args:
        bands: Band hashes, shape [documents, bands].
        ranks: Rank of each of these documents, ascending.

    Returns:
        Each pair once as (better, worse), sorted; shape [pairs, 2].
    """
    size = max(ranks, default=0) + 1
    numbers = np.asarray(ranks, dtype=np.int64)
    found = [np.zeros(0, dtype=np.int64)]
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        joints = np.flatnonzero(column[order][1:] == column[order][:-1])
        for bucket in _runs(joints):
            found.append(_coded(numbers[order[bucket]], size))
    codes = np.unique(np.concatenate(found))
    return np.stack((codes // size, codes % size), axis=1)


def _runs(joints: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of equal neighbours, given the positions that equal the next one."""
    if not len(joints):
        return
    breaks = np.flatnonzero(np.diff(joints) != 1)
    starts = joints[np.concatenate(([0], breaks + 1))]
    ends = joints[np.concatenate((breaks, [len(joints) - 1]))]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield slice(start, end + 2)


def _coded(members: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The pairs of a bucket, each as one number. `members` ascend, because the sort was stable."""
    if len(members) <= _ALL_PAIRS:
        first, second = np.triu_indices(len(members), 1)
        return members[first] * size + members[second]
    with_best = members[0] * size + members[1:]
    return np.concatenate((with_best, members[1:-1] * size + members[2:]))


def judge(num_documents: int, copies: dict[int, int], edges: Iterable[tuple[int, int, float]]) -> dict[int, Verdict]:
    """Verdicts on all documents that go, by rank.

    Args:
        num_documents: Number of documents.
        copies: Exact copies, see `exact_copies`.
        edges: Pairs that are alike, each with its similarity.
    """
    sets = UnionFind(num_documents)
    closest: dict[int, float] = {}
    for first, second, similarity in edges:
        sets.union(first, second)
        for rank in (first, second):
            closest[rank] = max(similarity, closest.get(rank, 0.0))
    verdicts = {
        rank: Verdict("near_duplicate", similarity, winner)
        for rank, similarity in closest.items()
        if (winner := sets.find(rank)) != rank
    }
    return verdicts | {rank: Verdict("exact_duplicate", 1.0, sets.find(best)) for rank, best in copies.items()}
