"""Document shards: the table every data step reads and writes, and the ledger of what it dropped.

A shard is an Arrow IPC file (lz4) of rows sorted by `doc_id`; a row's shard is the top bits of its id, so the bytes
depend on the documents alone: not on workers, hosts or clocks. Every dropped document leaves one ledger row with the
rule, the value and the threshold, so that read = kept + dropped at every step.

Layout of a documents artifact:
    documents/shard-00000.arrow ...   DOCUMENTS
    dropped/shard-00000.arrow ...     DROPPED
    summary.json                      {"read": n, "kept": n, "dropped": {rule: n}, "languages": {lang: n}, "chars": n}
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from components.publish import publish, publish_json

DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("source", pa.string()),
        ("url", pa.string()),
        ("lang", pa.string()),
        ("title", pa.string()),
        ("text", pa.large_string()),
    ]
)
DROPPED = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("url", pa.string()),
        ("rule", pa.string()),
        ("value", pa.string()),
        ("threshold", pa.string()),
    ]
)


@dataclass(frozen=True)
class Document:
    """One document of the corpus."""

    doc_id: bytes
    source: str
    url: str
    lang: str
    title: str
    text: str


@dataclass(frozen=True)
class Dropped:
    """One document that a step dropped, with the rule that did it."""

    doc_id: bytes
    url: str
    rule: str
    value: str
    threshold: str


@dataclass
class Outcome:
    """What became of some documents: those kept, those dropped."""

    kept: list[Document] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


def make_doc_id(source: str, url: str, payload: bytes) -> bytes:
    """128-bit identity of a document: where it is from and what its bytes are."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (source.encode(), url.encode(), hashlib.sha256(payload).digest()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def shard_of(doc_id: bytes, num_shards: int) -> int:
    """The shard of a document: the top 32 bits of its id, scaled to the number of shards."""
    return int.from_bytes(doc_id[:4], "big") * num_shards >> 32


def shard_paths(artifact: Path) -> list[Path]:
    """The document shards of an artifact, in order."""
    return sorted((artifact / "documents").glob("shard-*.arrow"))


def read_shard(path: Path) -> list[Document]:
    """All documents of one shard, in `doc_id` order."""
    columns = _read_table(path).to_pydict()
    return [Document(*row) for row in zip(*(columns[name] for name in DOCUMENTS.names), strict=True)]


def read_documents(artifact: Path) -> Iterator[Document]:
    """All documents of an artifact, shard by shard: the same order on every machine."""
    for path in shard_paths(artifact):
        yield from read_shard(path)


def read_dropped(artifact: Path) -> list[Dropped]:
    """The ledger of an artifact."""
    rows: list[Dropped] = []
    for path in sorted((artifact / "dropped").glob("shard-*.arrow")):
        columns = _read_table(path).to_pydict()
        rows += [Dropped(*row) for row in zip(*(columns[name] for name in DROPPED.names), strict=True)]
    return rows


def read_rows(artifact: Path, index: int, num_shards: int) -> Outcome:
    """The rows of an artifact, kept and dropped, that belong in shard `index` of `num_shards`, however sharded."""
    outcome = Outcome()
    for path in shard_paths(artifact):
        rows = _rows_of_shard(_read_table(path), index, num_shards)
        outcome.kept += [Document(*row) for row in zip(*(rows[name] for name in DOCUMENTS.names), strict=True)]
    for path in sorted((artifact / "dropped").glob("shard-*.arrow")):
        rows = _rows_of_shard(_read_table(path), index, num_shards)
        outcome.dropped += [Dropped(*row) for row in zip(*(rows[name] for name in DROPPED.names), strict=True)]
    return outcome


def write_shard(output: Path, index: int, outcome: Outcome) -> dict[str, object]:
    """Writes one shard of documents and its ledger; returns the shard's part of the summary."""
    kept = sorted(outcome.kept, key=lambda document: document.doc_id)
    dropped = sorted(outcome.dropped, key=lambda row: (row.doc_id, row.url, row.rule))
    _write_table(output / "documents" / f"shard-{index:05d}.arrow", kept, DOCUMENTS)
    _write_table(output / "dropped" / f"shard-{index:05d}.arrow", dropped, DROPPED)
    return {
        "read": len(kept) + len(dropped),
        "kept": len(kept),
        "dropped": dict(Counter(row.rule for row in dropped)),
        "languages": dict(Counter(document.lang for document in kept)),
        "chars": sum(len(document.text) for document in kept),
    }


def write_summary(output: Path, parts: Sequence[dict[str, object]]) -> dict[str, object]:
    """Adds up the shards' summaries, writes `summary.json` and returns it."""
    total: dict[str, object] = {
        key: sum(part[key] for part in parts)  # type: ignore[misc]
        for key in ("read", "kept", "chars")
    }
    for key in ("dropped", "languages"):
        counter: Counter[str] = Counter()
        for part in parts:
            counter.update(part[key])  # type: ignore[call-overload]
        total[key] = dict(sorted(counter.items()))
    publish_json(output / "summary.json", total)
    return total


def _write_table(path: Path, rows: Sequence[Document] | Sequence[Dropped], schema: pa.Schema) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    table = pa.table(columns, schema=schema)
    with publish(path) as temporary:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
            writer.write_table(table, max_chunksize=1024)


def _rows_of_shard(table: pa.Table, index: int, num_shards: int) -> dict[str, list[object]]:
    """A shard's rows are neighbours, because rows are sorted by id and a shard is a range of ids."""
    shards = [shard_of(doc_id, num_shards) for doc_id in table.column("doc_id").to_pylist()]
    start, end = bisect_left(shards, index), bisect_right(shards, index)
    columns: dict[str, list[object]] = table.slice(start, end - start).to_pydict()
    return columns


def _read_table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
