"""What dedup needs to know of a document instead of its text, kept in scratch: one Arrow file per shard.

The files are raw Arrow, so bands and shingles are used from the memory map as they are; the shingles stay on disk until
a pair of documents is verified. They take about 4 bytes per distinct shingle, somewhat more than the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.dedup.config import DedupConfig
from components.dedup.minhash import BandHashes, MinHasher
from components.dedup.shingles import Hashes, digest_of, fold, shingles_of
from components.documents import Document
from components.publish import publish

_CJK = ("zh", "ja")
_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("url", pa.string()),
        ("chars", pa.int64()),
        ("letters", pa.int64()),
        ("digest", pa.binary(16)),
        ("bands", pa.large_list(pa.uint64())),
        ("shingles", pa.large_list(pa.uint32())),
    ]
)


def write_sketches(path: Path, documents: Sequence[Document], config: DedupConfig) -> None:
    """Sketches the documents of a shard."""
    hasher = MinHasher(config.bands, config.rows)
    digests: list[bytes] = []
    letters: list[int] = []
    bands: list[BandHashes] = []
    shingles: list[Hashes] = []
    for document in documents:
        folded = fold(document.text, document.lang)
        digests.append(digest_of(folded))
        letters.append(len(folded))
        n = config.shingle_chars_zh if document.lang in _CJK else config.shingle_chars
        shingles.append(shingles_of(folded, n))
        bands.append(hasher.bands_of(shingles[-1]))
    columns = [
        pa.array([document.doc_id for document in documents], pa.binary(16)),
        pa.array([document.url for document in documents], pa.string()),
        pa.array([len(document.text) for document in documents], pa.int64()),
        pa.array(letters, pa.int64()),
        pa.array(digests, pa.binary(16)),
        _lists(bands, np.uint64),
        _lists(shingles, np.uint32),
    ]
    batch = pa.record_batch(columns, schema=_SCHEMA)
    with publish(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_batch(batch)


def _lists(rows: Sequence[NDArray[np.unsignedinteger]], dtype: type) -> pa.LargeListArray:
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
    values = np.concatenate(rows) if rows else np.zeros(0, dtype)
    return pa.LargeListArray.from_arrays(pa.array(offsets.astype(np.int64)), pa.array(values.astype(dtype)))


@dataclass(frozen=True)
class Sketches:
    """The sketches of one shard, memory-mapped."""

    batch: pa.RecordBatch

    @cached_property
    def urls(self) -> list[str]:
        """URL of each document."""
        urls: list[str] = self.batch.column("url").to_pylist()
        return urls

    @cached_property
    def ranks(self) -> list[tuple[int, int, str, bytes]]:
        """What a document is preferred by, the least being best: most letters, fewest marks, URL, id."""
        ids = self.batch.column("doc_id").to_pylist()
        letters = self.batch.column("letters").to_pylist()
        return [(-most, chars, *rest) for most, chars, *rest in zip(letters, self.chars, self.urls, ids, strict=True)]

    @cached_property
    def chars(self) -> list[int]:
        """Characters of each document's text."""
        chars: list[int] = self.batch.column("chars").to_pylist()
        return chars

    @cached_property
    def digests(self) -> list[bytes]:
        """Hash of each document's folded text."""
        digests: list[bytes] = self.batch.column("digest").to_pylist()
        return digests

    @cached_property
    def bands(self) -> BandHashes:
        """Band hashes, shape [documents, bands]."""
        values: BandHashes = self.batch.column("bands").values.to_numpy()
        return values.reshape(self.batch.num_rows, -1) if len(values) else values.reshape(0, 0)

    def shingles(self, row: int) -> Hashes:
        """Shingle set of one document."""
        column = self.batch.column("shingles")
        offsets = self._offsets
        shingles: Hashes = column.values.to_numpy()[offsets[row] : offsets[row + 1]]
        return shingles

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        offsets: NDArray[np.int64] = self.batch.column("shingles").offsets.to_numpy()
        return offsets


@lru_cache(maxsize=256)
def open_sketches(path: Path) -> Sketches:
    """Maps the sketches of a shard into memory."""
    return Sketches(pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0))
