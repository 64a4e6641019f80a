"""Writes the shards again: without the documents that go, without what is cut, with clusters marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.arrow_files import TupleWriter
from components.dedup.clusters import read_verdicts
from components.dedup.config import DedupConfig
from components.dedup.cuts import Cut, cut
from components.dedup.gather import MEMORY, gather_documents
from components.dedup.runs import Table, read_range
from components.documents import BATCH_ROWS, Document, Dropped, ShardWriter
from components.errors import StepError
from components.shardwise import Part, once
from components.sketch.config import is_cjk
from components.sketch.sketches import iter_columns

Hashes: TypeAlias = NDArray[np.uint64]

CUTS = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("lines", pa.int32()),
        ("line_chars", pa.int64()),
        ("passages", pa.int32()),
        ("passage_chars", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Sifting:
    """One shard to write again.

    Attributes:
        documents: The shard.
        previous: An earlier artifact, or None.
        sketches: The gathered sketches of the shard.
        start: Number of its first document.
        index: Number of the shard.
        verdicts: All verdicts.
        lines: Tables of lines to cut (number, hash).
        passages: Tables of passages to cut.
        passage_chars: Length of a passage by language, Chinese and Japanese first, then all others.
        config: The settings.
        tables: Folder for the results.
    """

    documents: Path
    previous: Path | None
    sketches: Path
    start: int
    index: int
    verdicts: Path
    lines: Sequence[Path]
    passages: Sequence[Path]
    passage_chars: tuple[int, int]
    config: DedupConfig
    tables: Path


def sift(task: Sifting) -> Part:
    """Writes one shard; its part is the shard's summary with the counts of what was cut."""
    return once(task.tables.with_name("parts") / f"{task.index:05d}.json", lambda: _sift(task))


@dataclass
class _Counts:
    documents: int = 0
    lines: int = 0
    passages: int = 0
    chars: int = 0

    def add(self, done: Cut) -> None:
        self.documents += 1
        self.lines += done.lines
        self.passages += done.passages
        self.chars += done.line_chars + done.passage_chars


def _sift(task: Sifting) -> Part:
    counts = _Counts()
    numbered = enumerate(_checked(task), task.start)
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(task.tables, task.index))
        memory = stack.enter_context(ShardWriter(task.tables / MEMORY, task.index)) if task.config.keep_memory else None
        cuts = stack.enter_context(TupleWriter(task.tables / "cuts" / task.documents.name, CUTS))
        while chunk := list(islice(numbered, BATCH_ROWS)):
            _sift_chunk(task, chunk, writer, memory, cuts, counts)
    return writer.part | {f"cut_{name}": value for name, value in vars(counts).items()}


def _sift_chunk(
    task: Sifting,
    chunk: list[tuple[int, Document]],
    writer: ShardWriter,
    memory: ShardWriter | None,
    cuts: TupleWriter,
    counts: _Counts,
) -> None:
    low, high = chunk[0][0], chunk[-1][0] + 1
    verdicts = {int(str(row["number"])): row for row in read_verdicts(task.verdicts, low, high)}
    lines = read_range(task.lines, (low, high)) if task.lines else None
    passages = read_range(task.passages, (low, high)) if task.passages else None
    rows: list[tuple[object, ...]] = []
    for number, document in chunk:
        marked, loss = _judged(document, verdicts.get(number))
        done = None if loss else _cut(task, marked, _hashes(lines, number), _hashes(passages, number))
        if done and len(done.text) < task.config.min_chars_left:
            told = f"{task.config.min_chars_left}, {done.line_chars + done.passage_chars} cut"
            loss = Dropped(document.doc_id, document.url, "short_after_cuts", str(len(done.text)), told)
        if loss:
            writer.drop(loss)
        elif done:
            writer.keep(replace(marked, text=done.text))
            rows.append((document.doc_id, done.lines, done.line_chars, done.passages, done.passage_chars))
            counts.add(done)
        else:
            writer.keep(marked)
        if memory and (loss or done):
            memory.keep(document)
    cuts.write(rows)


def _judged(document: Document, verdict: dict[str, object] | None) -> tuple[Document, Dropped | None]:
    """A document with its cluster, and its ledger row if it goes."""
    if verdict is None:
        return document, None
    told = (str(verdict[name]) for name in ("rule", "value", "threshold"))
    loss = Dropped(document.doc_id, document.url, *told) if verdict["drops"] else None
    cluster, size = verdict["cluster"], int(str(verdict["cluster_size"]))
    return replace(document, cluster=cluster if isinstance(cluster, bytes) else b"", cluster_size=size), loss


def _cut(task: Sifting, document: Document, lines: Hashes, passages: Hashes) -> Cut | None:
    """What is left of a document of which something is to be cut; None if it stays as it is."""
    if not len(lines) and not len(passages):
        return None
    passage_chars = task.passage_chars[0 if is_cjk(document.lang) else 1]
    done = cut(document.text, document.lang, lines, passages, passage_chars)
    return done if done.lines or done.passages else None


def _hashes(table: Table | None, number: int) -> Hashes:
    if table is None:
        return np.zeros(0, dtype=np.uint64)
    hashes: Hashes = table["hash"][table["number"] == number].astype(np.uint64)
    return hashes


def _checked(task: Sifting) -> Iterator[Document]:
    """The documents of the shard, each proven to be the one that was sketched."""
    lengths = (chars for batch in iter_columns(task.sketches, ["chars"]) for chars in batch.column(0).to_pylist())
    for document, chars in zip(gather_documents(task.documents, task.previous), lengths, strict=True):
        if len(document.text) != chars:
            raise StepError(
                f"Document {document.doc_id.hex()} has {len(document.text)} characters, its sketch {chars}.",
                where=str(task.documents),
                fix="sketch the documents that dedup reads, or the artifact they were chosen from",
            )
        yield document
