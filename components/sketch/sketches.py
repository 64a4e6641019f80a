"""The table of sketches: what dedup needs to know of a document instead of its text, one Arrow file per shard.

Rows lie in `doc_id` order, in batches that end by the same rule as those of documents. The files are raw Arrow, so that
a single row can be read from the disk where it lies: comparing two documents costs two short reads and no mapped
memory, however large the corpus. A row takes about 4 bytes per distinct shingle, somewhat more than the text.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.arrow_files import ArrowWriter
from components.documents import BATCH_CHARS, BATCH_ROWS
from components.sketch.minhash import BandHashes
from components.sketch.shingles import Hashes

LANG_BYTES = 8
SKETCHES = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("url", pa.string()),
        ("lang", pa.binary(LANG_BYTES)),
        ("chars", pa.int64()),
        ("letters", pa.int64()),
        ("digest", pa.binary(16)),
        ("bands", pa.large_list(pa.uint64())),
        ("shingles", pa.large_list(pa.uint32())),
        ("lines", pa.large_list(pa.uint64())),
        ("passages", pa.large_list(pa.uint64())),
    ]
)


@dataclass(frozen=True)
class Sketch:
    """What is kept of one document.

    Attributes:
        doc_id: Its id.
        url: Its URL.
        lang: Its language, at most 8 bytes, filled up with zeros.
        chars: Characters of its text.
        letters: Characters of its folded text.
        digest: 16-byte hash of its folded text.
        bands: MinHash bands, see `MinHasher.bands_of`.
        shingles: Hashed shingles, ascending, each once.
        lines: Hashes of its longer lines, ascending, each once.
        passages: Fingerprints of its passages, see `hashing.fingerprints`.
    """

    doc_id: bytes
    url: str
    lang: bytes
    chars: int
    letters: int
    digest: bytes
    bands: BandHashes
    shingles: Hashes
    lines: NDArray[np.uint64]
    passages: NDArray[np.uint64]


class SketchWriter(ArrowWriter):
    """Writes a shard of sketches; a context manager, published on a clean exit."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SKETCHES, None)
        self._rows: list[Sketch] = []
        self._chars = 0
        self.count = 0

    def add(self, sketch: Sketch) -> None:
        """Adds a row; rows must come in `doc_id` order."""
        self._rows.append(sketch)
        self._chars += sketch.chars
        self.count += 1
        if len(self._rows) >= BATCH_ROWS or self._chars >= BATCH_CHARS:
            self._flush()

    def _finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [_column([getattr(row, field.name) for row in self._rows], field.type) for field in SKETCHES]
            self._put(pa.record_batch(columns, schema=SKETCHES))
        self._rows, self._chars = [], 0


def _column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_large_list(kind):
        return pa.array(values, kind)
    rows: list[NDArray[np.unsignedinteger]] = list(values)  # type: ignore[arg-type]
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows), kind.value_type))


def iter_columns(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The batches of a shard with some of its columns; the others are not read from the disk."""
    options = pa.ipc.IpcReadOptions(included_fields=[SKETCHES.get_field_index(name) for name in names])
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def iter_sketches(path: Path) -> Iterator[Sketch]:
    """The rows of a shard, one batch in memory at a time."""
    for batch in iter_columns(path, SKETCHES.names):
        columns = [_values(batch.column(name)) for name in SKETCHES.names]
        yield from (Sketch(*row) for row in zip(*columns, strict=True))


def rows_of(column: pa.Array) -> list[NDArray[np.unsignedinteger]]:
    """The rows of a list column, without copies."""
    offsets = column.offsets.to_numpy().tolist()
    values = column.values.to_numpy()
    return [values[start:end] for start, end in pairwise(offsets)]


def _values(column: pa.Array) -> Sequence[object]:
    if pa.types.is_large_list(column.type):
        return rows_of(column)
    values: list[object] = column.to_pylist()
    return values


class SketchReader:
    """Reads single rows of some shards with `pread`: shingles, length and language of a document by number.

    Args:
        paths: The shards.
        starts: Number of each shard's first document; one more for the end.
    """

    def __init__(self, paths: Sequence[Path], starts: Sequence[int]) -> None:
        self._paths = paths
        self._starts = starts
        self._shards: dict[int, _Layout] = {}

    def __enter__(self) -> SketchReader:
        return self

    def __exit__(self, *_: object) -> None:
        for layout in self._shards.values():
            os.close(layout.file)

    def shingles(self, number: int) -> Hashes:
        """The shingle set of a document."""
        layout, batch, row = self._find(number)
        start, end = np.frombuffer(os.pread(layout.file, 16, batch.offsets + 8 * row), dtype="<i8").tolist()
        return np.frombuffer(os.pread(layout.file, 4 * (end - start), batch.shingles + 4 * start), dtype="<u4")

    def chars(self, number: int) -> int:
        """Characters of its text."""
        layout, batch, row = self._find(number)
        return int.from_bytes(os.pread(layout.file, 8, batch.chars + 8 * row), "little")

    def lang(self, number: int) -> str:
        """Its language."""
        layout, batch, row = self._find(number)
        return os.pread(layout.file, LANG_BYTES, batch.lang + LANG_BYTES * row).rstrip(b"\0").decode(errors="replace")

    def _find(self, number: int) -> tuple[_Layout, _BatchLayout, int]:
        shard = bisect_right(self._starts, number) - 1
        if shard not in self._shards:
            self._shards[shard] = _layout(self._paths[shard])
        layout = self._shards[shard]
        row = number - self._starts[shard]
        batch = bisect_right(layout.starts, row) - 1
        return layout, layout.batches[batch], row - layout.starts[batch]


@dataclass(frozen=True)
class _BatchLayout:
    """Where the columns of a batch begin in the file."""

    chars: int
    lang: int
    offsets: int
    shingles: int


@dataclass(frozen=True)
class _Layout:
    """An open file, the first row of each of its batches, and where they lie."""

    file: int
    starts: list[int]
    batches: list[_BatchLayout]


def _layout(path: Path) -> _Layout:
    """Finds the columns of a file by mapping it once, reading none of them."""
    starts, batches, row = [], [], 0
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        source.seek(0)
        base = source.read_buffer(1).address
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            chars, lang = (batch.column(name).buffers()[1].address - base for name in ("chars", "lang"))
            _, offsets, _, values = batch.column("shingles").buffers()
            starts.append(row)
            batches.append(_BatchLayout(chars, lang, offsets.address - base, values.address - base))
            row += batch.num_rows
    return _Layout(os.open(path, os.O_RDONLY), starts, batches)
