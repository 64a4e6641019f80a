"""The side table of scores: one row per document, in the documents' order, in shards of the same names.

    scores/shard-00000.arrow     SCORES: doc_id and every statistic of `names.py`, as float32

A step that decides reads this table and the short columns of the documents, never a text: `iter_scored`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.arrow_files import ArrowWriter
from components.documents import BATCH_ROWS, DOCUMENTS, Document
from components.errors import StepError
from components.score.names import STATISTICS

FOLDER = "scores"
BATCH_CHARS = 200_000
BATCH_DOCUMENTS = 256
SCORES = pa.schema([("doc_id", pa.binary(16)), *((name, pa.float32()) for name in STATISTICS)])
QUALITY = pa.schema([("doc_id", pa.binary(16)), ("quality", pa.float32())])
"""What the step `quality` writes, in the same way."""
LIGHT = tuple(name for name in DOCUMENTS.names if name not in ("title", "text"))
"""The columns of documents that are short."""


def score_path(artifact: Path, documents_shard: Path) -> Path:
    """The shard of scores that belongs to a shard of documents.

    Raises:
        StepError: If the artifact has none.
    """
    path = artifact / FOLDER / documents_shard.name
    if not path.exists():
        raise StepError(
            f"There are no scores beside {documents_shard.name}.",
            where=str(path),
            fix="give the artifact of the step score (or quality), made of the same documents",
        )
    return path


class ScoreWriter(ArrowWriter):
    """Writes one shard of a side table batch by batch; a context manager, published on a clean exit.

    Args:
        path: The file.
        schema: `SCORES` or `QUALITY`.
    """

    def __init__(self, path: Path, schema: pa.Schema = SCORES) -> None:
        super().__init__(path, schema, "lz4")
        self._waiting: list[pa.RecordBatch] = []

    def add(self, doc_ids: Sequence[bytes], numbers: Mapping[str, NDArray[np.float64]]) -> None:
        """Adds rows, in the order of the documents: ids, and a column of numbers for every other name of the schema."""
        names = self._schema.names[1:]
        columns = [pa.array(doc_ids, self._schema.field(0).type)]
        columns += [pa.array(np.asarray(numbers[name], dtype=np.float32)) for name in names]
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= BATCH_ROWS:
            self._flush(BATCH_ROWS)

    def _finish(self) -> None:
        self._flush(1)

    def _flush(self, least: int) -> None:
        """Writes whole batches, so that the bytes do not depend on how rows came; keeps the rest."""
        table = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        while table.num_rows >= least:
            (batch,) = table.slice(0, BATCH_ROWS).combine_chunks().to_batches()
            self._writer.write_batch(batch)
            table = table.slice(batch.num_rows)
        self._waiting = table.to_batches()


def batches_of(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents by a few hundred, fewer where they are long: arrays of a batch stay in the processor's cache."""
    batch: list[Document] = []
    chars = 0
    for document in documents:
        batch.append(document)
        chars += len(document.text)
        if chars >= BATCH_CHARS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def iter_rows(path: Path, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of an Arrow file in batches of `rows` (the last may have fewer), however it was written.

    Args:
        path: A shard of documents or of a side table.
        columns: The columns that are read; None for all. Others are not decoded.
        rows: Rows of a batch.
    """
    with pa.memory_map(str(path)) as source:
        schema = pa.ipc.open_file(source).schema
        chosen = None if columns is None else [schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=chosen)
        file = pa.ipc.open_file(source, options=options)
        waiting = pa.Table.from_batches([], file.schema)
        for number in range(file.num_record_batches):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([file.get_batch(number)])])
            while waiting.num_rows >= rows:
                yield _one_batch(waiting.slice(0, rows))
                waiting = waiting.slice(rows)
        if waiting.num_rows:
            yield _one_batch(waiting)


def iter_scored(documents_shard: Path, *side_shards: Path) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """The short columns of a shard of documents with the rows of its side tables, batch by batch.

    Yields:
        Batches of the same documents: of `LIGHT` columns, then of each side table.

    Raises:
        StepError: If a side table is not of these documents.
    """
    streams = [iter_rows(documents_shard, LIGHT), *(iter_rows(path) for path in side_shards)]
    while True:
        batches = [next(stream, None) for stream in streams]
        if all(batch is None for batch in batches):
            return
        for path, batch in zip(side_shards, batches[1:], strict=True):
            if batch is None or batches[0] is None or not batch.column("doc_id").equals(batches[0].column("doc_id")):
                raise StepError(
                    f"The scores in {path.parent.parent.name}/{FOLDER}/{path.name} are not of these documents.",
                    where=str(documents_shard),
                    fix="give clean, score and quality artifacts that were made of the same documents",
                )
        yield tuple(batches)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches()
    return batch
