"""Which documents are for validation and test: by the keyed hash of the cluster of near duplicates they belong to.

The hash of the cluster decides, so no text has its near duplicate on another side, adding pages to the corpus moves
none of the old ones across, and two tokenizers see the same split. Hashes below one limit are for validation, those
from there to a second limit for test, the rest for training. Only where a share would give fewer documents than its
minimum does a limit depend on the whole corpus: it then rises to take in enough.

A limit is found shard by shard, each telling its few smallest hashes: memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.documents import DOCUMENTS
from components.errors import StepError

_RANGE = 1 << 64


@dataclass(frozen=True)
class Limits:
    """Where the sides begin and end on the line of hashes.

    Attributes:
        key: Key of the hash.
        val: Documents whose hash lies below are for validation.
        test: Of the others, those whose hash lies below are for test.
    """

    key: int
    val: int
    test: int

    def side(self, name: bytes) -> str:
        """The side of a document, by the name of its cluster: "train", "val" or "test"."""
        place = split_hash(name, self.key)
        return "val" if place < self.val else "test" if place < self.test else "train"


@dataclass(frozen=True)
class Head:
    """What one shard tells of its hashes.

    Attributes:
        count: Documents at or above the floor.
        smallest: The smallest hashes at or above the floor, ascending.
        largest: The largest hash; -1 where there is none.
    """

    count: int
    smallest: list[int]
    largest: int


@dataclass(frozen=True)
class HeadOf:
    """Finds the head of a document shard. Picklable.

    Attributes:
        key: Key of the hash.
        floor: Lower hashes are left out.
        least: Hashes wanted.
    """

    key: int
    floor: int
    least: int

    def __call__(self, path: Path) -> Head:
        """The head of the shard at `path`."""
        return self.over(cluster_names(path))

    def over(self, names: Iterable[bytes]) -> Head:
        """The head of some documents, by the names of their clusters."""
        count, largest = 0, -1

        def counted() -> Iterator[int]:
            nonlocal count, largest
            for name in names:
                place = split_hash(name, self.key)
                if place >= self.floor:
                    count, largest = count + 1, max(largest, place)
                    yield place

        smallest = heapq.nsmallest(self.least, counted())
        return Head(count, smallest, largest)


def split_hash(name: bytes, key: int) -> int:
    """The place of a cluster in 0..2**64-1."""
    digest = hashlib.blake2b(name, digest_size=8, key=key.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big")


def cluster_names(path: Path) -> Iterator[bytes]:
    """The cluster of each document of a shard, its own id where it has none; the texts are not read."""
    fields = [DOCUMENTS.get_field_index(name) for name in ("doc_id", "cluster")]
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            ids, clusters = (batch.column(name).to_pylist() for name in ("doc_id", "cluster"))
            yield from (cluster or doc_id for doc_id, cluster in zip(ids, clusters, strict=True))


def find_limits(
    heads: Callable[[HeadOf], Sequence[Head]],
    key: int,
    fractions: tuple[float, float],
    least: tuple[int, int],
) -> Limits:
    """Finds both limits.

    Args:
        heads: Gives the head of every shard.
        key: Seed of the split.
        fractions: Shares of validation and test wanted; a share of 0 for test makes none.
        least: Numbers of documents that validation and test get at least.

    Raises:
        StepError: If nothing would be left to train on.
    """
    val = _limit(heads(HeadOf(key, 0, least[0])), int(fractions[0] * _RANGE), least[0], "val")
    if not fractions[1]:
        return Limits(key, val, val)
    ahead = heads(HeadOf(key, val, least[1]))
    return Limits(key, val, _limit(ahead, val + int(fractions[1] * _RANGE), least[1], "test"))


def _limit(heads: Sequence[Head], by_share: int, least: int, split: str) -> int:
    count = sum(head.count for head in heads)
    if count <= least:
        raise StepError(
            f"The corpus has {count} documents left and the {split} split alone needs {least}.",
            where=f"tokens.min_{split}_documents={least}",
            fix=f"crawl more pages, or drop fewer in clean; or set tokens.min_{split}_documents=1",
        )
    smallest = heapq.merge(*(head.smallest for head in heads))
    last = next(place for number, place in enumerate(smallest, start=1) if number == least)
    limit = max(by_share, last + 1)
    if max(head.largest for head in heads) < limit:
        raise StepError(
            f"The {split} split takes all {count} documents that are left; none remains to train on.",
            where=f"tokens.{split}_fraction",
            fix=f"set tokens.{split}_fraction=0.01, or crawl more pages",
        )
    return limit
