"""The rows that dedup works on: documents and their sketches, out of this run and out of an earlier one.

Sketches are made of all scored documents, documents come from the step after, which dropped some: a merge by `doc_id`
finds the sketches of those that are left. With an earlier artifact the corpus is the union of both, exactly as if it
had been read at once: a document that both have is taken as it is now.

A document's *number* is its place in the corpus by `doc_id`; so numbers ascend within a shard and over the shards, and
do not depend on how many shards there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from components.documents import DOCUMENTS, Document, iter_shard
from components.errors import StepError
from components.sketch.sketches import Sketch, SketchWriter, iter_sketches

MEMORY = "memory"

Row = TypeVar("Row", Document, Sketch)


def gather_sketches(documents: Path, sketches: Path, previous: Path | None, target: Path) -> int:
    """Writes the sketches of a shard's documents, those of an earlier run among them.

    Args:
        documents: The shard of documents.
        sketches: The shard of sketches with the same number; may hold more documents.
        previous: An earlier artifact with memory, or None.
        target: The file to write.

    Returns:
        The number of documents.

    Raises:
        StepError: If a document has no sketch.
    """
    now = _sketches_of(documents, sketches)
    before = iter_sketches(previous / MEMORY / "sketches" / documents.name) if previous else iter(())
    with SketchWriter(target) as writer:
        for sketch in _newest(now, before):
            writer.add(sketch)
    return writer.count


def gather_documents(documents: Path, previous: Path | None) -> Iterator[Document]:
    """The documents of a shard, those of an earlier run among them, as they were before any dedup."""
    now = (_unmarked(document) for document in iter_shard(documents))
    return _newest(now, _as_read(previous, documents.name) if previous else iter(()))


def _as_read(previous: Path, name: str) -> Iterator[Document]:
    """What an earlier run read: what it kept unchanged, and from its memory what it dropped or cut."""
    changed = iter_shard(previous / MEMORY / "documents" / name)
    kept = iter_shard(previous / "documents" / name)
    return (_unmarked(document) for document in _newest(changed, kept))


def _unmarked(document: Document) -> Document:
    return replace(document, cluster=b"", cluster_size=1)


def _sketches_of(documents: Path, sketches: Path) -> Iterator[Sketch]:
    rows = iter_sketches(sketches)
    for doc_id in _doc_ids(documents):
        found = next((row for row in rows if row.doc_id >= doc_id), None)
        if found is None or found.doc_id != doc_id:
            raise StepError(
                f"Document {doc_id.hex()} has no sketch.",
                where=f"{documents} and {sketches}",
                fix="give dedup the sketches of the documents that its own were chosen from",
            )
        yield found


def _doc_ids(path: Path) -> Iterator[bytes]:
    options = pa.ipc.IpcReadOptions(included_fields=[DOCUMENTS.get_field_index("doc_id")])
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            yield from reader.get_batch(number).column(0).to_pylist()


def _newest(first: Iterable[Row], second: Iterable[Row]) -> Iterator[Row]:
    """Merges two ascending streams by id; where both have one, that of the first is taken."""
    last = b""
    for row in heapq.merge(first, second, key=lambda row: row.doc_id):
        if row.doc_id != last:
            yield row
        last = row.doc_id
