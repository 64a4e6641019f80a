"""Document shards: the table every data step reads and writes, and the ledger of what it dropped.

A shard is an Arrow IPC file (lz4) of rows sorted by `doc_id`; a row's shard is the top bits of its id, so the bytes
depend on the documents alone: not on workers, hosts or clocks. Every dropped document leaves one ledger row with the
rule, the value and the threshold, so that read = kept + dropped at every step.

Shards are read and written batch by batch (`iter_shard`, `ShardWriter`), and sorted files are merged a few at a time
(`merge_shards`), so that a worker's memory does not grow with the corpus. A batch ends after `BATCH_ROWS` rows or
`BATCH_CHARS` characters of text, whichever comes first: a rule of the rows alone, so the bytes stay the same.

Layout of a documents artifact:
    documents/shard-00000.arrow ...   DOCUMENTS
    dropped/shard-00000.arrow ...     DROPPED
    summary.json                      {"read": n, "kept": n, "dropped": {rule: n}, "languages": {lang: n}, "chars": n}
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar

import pyarrow as pa

from components.arrow_files import ArrowWriter
from components.errors import StepError
from components.publish import publish_json

BATCH_ROWS = 1024
BATCH_CHARS = 4_000_000
FAN_IN = 16
"""Files merged at once: each holds one batch in memory."""
RUN_BATCH_CHARS = 250_000
"""`BATCH_CHARS` of files that are there to be merged."""
_ROWS_AT_ONCE = 64

DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("source", pa.string()),
        ("url", pa.string()),
        ("lang", pa.string()),
        ("title", pa.string()),
        ("text", pa.large_string()),
        ("script", pa.string()),
        ("date", pa.string()),
        ("licence", pa.string()),
        ("opt_out", pa.string()),
        ("quality", pa.float64()),
        ("cluster", pa.binary()),
        ("cluster_size", pa.int32()),
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
    """One document of the corpus.

    Attributes:
        doc_id: 16 bytes, see `make_doc_id`.
        source: Name of the corpus it is from.
        url: Canonical URL, or the key of the row it was read from.
        lang: ISO 639 code, "und" if unknown.
        title: Title of the page.
        text: The text.
        script: ISO 15924 code of most of its letters ("Latn", "Hans", "Hant", "Jpan"); empty if unknown.
        date: When it was published or last changed, as "YYYY-MM-DD"; empty if the page does not say.
        licence: What the page or the source says of its licence: an SPDX id or a URL; empty if nothing does.
        opt_out: Who asks that no model learns from it ("robots noai", "tdm-reservation"); empty if nobody does.
        quality: Score of the quality classifier, 0 to 1; None if none has looked at it.
        cluster: `doc_id` of the document that stands for its set of near duplicates; empty for its own.
        cluster_size: Documents of that set, this one included.
    """

    doc_id: bytes
    source: str
    url: str
    lang: str
    title: str
    text: str
    script: str = ""
    date: str = ""
    licence: str = ""
    opt_out: str = ""
    quality: float | None = None
    cluster: bytes = b""
    cluster_size: int = 1


@dataclass(frozen=True)
class Dropped:
    """One document that a step dropped, with the rule that did it."""

    doc_id: bytes
    url: str
    rule: str
    value: str
    threshold: str


Row = TypeVar("Row", Document, Dropped)
_Key: TypeAlias = bytes | tuple[bytes, str, str]


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


def dropped_paths(artifact: Path) -> list[Path]:
    """The ledger shards of an artifact, in order."""
    return sorted((artifact / "dropped").glob("shard-*.arrow"))


def iter_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard in `doc_id` order, one batch in memory at a time."""
    return _iter_rows(path, Document, DOCUMENTS, 0, 1)


def iter_ledger(path: Path) -> Iterator[Dropped]:
    """The rows of one shard of a ledger, one batch in memory at a time."""
    return _iter_rows(path, Dropped, DROPPED, 0, 1)


def read_shard(path: Path) -> list[Document]:
    """All documents of one shard, in `doc_id` order."""
    return list(iter_shard(path))


def read_documents(artifact: Path) -> Iterator[Document]:
    """All documents of an artifact, shard by shard: the same order on every machine."""
    for path in shard_paths(artifact):
        yield from iter_shard(path)


def read_dropped(artifact: Path) -> list[Dropped]:
    """The ledger of an artifact."""
    return [row for path in dropped_paths(artifact) for row in iter_ledger(path)]


def read_doc_ids(path: Path) -> list[bytes]:
    """The ids of a document shard, without reading its texts."""
    options = pa.ipc.IpcReadOptions(included_fields=[DOCUMENTS.get_field_index("doc_id")])
    with pa.OSFile(str(path)) as source:
        ids: list[bytes] = pa.ipc.open_file(source, options=options).read_all().column("doc_id").to_pylist()
    return ids


def merge_documents(paths: Sequence[Path], index: int, num_shards: int) -> Iterator[Document]:
    """The documents of shard `index` of `num_shards` out of sorted files, in `doc_id` order, however sharded.

    Holds a batch of each file: with more than `FAN_IN` files call `condense` first.
    """
    return heapq.merge(*(_iter_rows(path, Document, DOCUMENTS, index, num_shards) for path in paths), key=_by_document)


def merge_dropped(paths: Sequence[Path], index: int, num_shards: int) -> Iterator[Dropped]:
    """The ledger rows of shard `index` of `num_shards` out of sorted files, in order. See `merge_documents`."""
    return heapq.merge(*(_iter_rows(path, Dropped, DROPPED, index, num_shards) for path in paths), key=_by_rule)


def condense(paths: Sequence[Path], folder: Path, schema: pa.Schema) -> list[Path]:
    """Merges sorted files, `FAN_IN` at a time, until no more than `FAN_IN` are left.

    Args:
        paths: Files of documents or of a ledger, each sorted.
        folder: Where merged files go; those that an earlier attempt finished are used.
        schema: `DOCUMENTS` or `DROPPED`.

    Returns:
        At most `FAN_IN` files with the same rows: the given ones where they are few enough.
    """
    level = 0
    while len(paths) > FAN_IN:
        groups = [paths[start : start + FAN_IN] for start in range(0, len(paths), FAN_IN)]
        merged = [folder / f"merged-{level}-{number:05d}.arrow" for number in range(len(groups))]
        for group, target in zip(groups, merged, strict=True):
            if not target.exists():
                _merge_into(target, group, schema)
        paths, level = merged, level + 1
    return list(paths)


class ShardWriter:
    """Writes one shard of documents and its ledger row by row; a context manager, published on a clean exit.

    Args:
        output: Folder of the documents artifact.
        index: Number of the shard.
        batch_chars: Characters of text after which a batch ends.

    Attributes:
        part: The shard's part of the summary, complete after the block.
    """

    def __init__(self, output: Path, index: int, batch_chars: int = BATCH_CHARS) -> None:
        name = f"shard-{index:05d}.arrow"
        self._documents = output / "documents" / name
        self._ledger = output / "dropped" / name
        self._batch_chars = batch_chars
        self._stack = ExitStack()
        self._rules: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._kept = self._chars = 0

    def __enter__(self) -> ShardWriter:
        with ExitStack() as stack:
            self._out = stack.enter_context(_RowWriter(self._documents, DOCUMENTS, _by_document, self._batch_chars))
            self._dropped = stack.enter_context(_RowWriter(self._ledger, DROPPED, _by_rule, self._batch_chars))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def keep(self, document: Document) -> None:
        """Adds a document; they must come in ascending `doc_id` order.

        Raises:
            ValueError: If this one comes out of order.
        """
        self._out.add(document)
        self._kept += 1
        self._chars += len(document.text)
        self._languages[document.lang] += 1

    def drop(self, row: Dropped) -> None:
        """Adds a ledger row; they must come in ascending order of (doc_id, url, rule).

        Raises:
            ValueError: If this one comes out of order.
        """
        self._dropped.add(row)
        self._rules[row.rule] += 1

    @property
    def part(self) -> dict[str, object]:
        """What has been written so far."""
        return {
            "read": self._kept + self._rules.total(),
            "kept": self._kept,
            "dropped": dict(self._rules),
            "languages": dict(self._languages),
            "chars": self._chars,
        }


def write_shard(output: Path, index: int, outcome: Outcome, batch_chars: int = BATCH_CHARS) -> dict[str, object]:
    """Writes one shard of documents and its ledger; returns the shard's part of the summary."""
    with ShardWriter(output, index, batch_chars) as writer:
        for document in sorted(outcome.kept, key=_by_document):
            writer.keep(document)
        for row in sorted(outcome.dropped, key=_by_rule):
            writer.drop(row)
    return writer.part


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


def _by_document(document: Document) -> bytes:
    return document.doc_id


def _by_rule(row: Dropped) -> tuple[bytes, str, str]:
    return row.doc_id, row.url, row.rule


class _RowWriter(ArrowWriter, Generic[Row]):
    """Writes rows of one kind into a file, batch by batch."""

    def __init__(self, path: Path, schema: pa.Schema, key: Callable[[Row], _Key], batch_chars: int) -> None:
        super().__init__(path, schema, "lz4")
        self._batch_chars = batch_chars
        self._key: Callable[[Row], _Key] = key
        self._rows: list[Row] = []
        self._chars = 0
        self._last: _Key | None = None

    def add(self, row: Row) -> None:
        key = self._key(row)
        if self._last is not None and key < self._last:  # type: ignore[operator]  # keys of one writer are of one type
            raise ValueError(f"{self._path}: {row.doc_id.hex()} comes after a greater row")
        self._last = key
        self._rows.append(row)
        self._chars += len(row.text) if isinstance(row, Document) else 0
        if len(self._rows) >= BATCH_ROWS or self._chars >= self._batch_chars:
            self._flush()

    def _finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = {name: [getattr(row, name) for row in self._rows] for name in self._schema.names}
            self._put(pa.RecordBatch.from_pydict(columns, schema=self._schema))
        self._rows, self._chars = [], 0


def _iter_rows(path: Path, kind: type[Row], schema: pa.Schema, index: int, num_shards: int) -> Iterator[Row]:
    """The rows of a sorted file that belong in one shard; batches of other shards are not decoded."""
    ids_only = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index("doc_id")])
    with _whole(path), pa.OSFile(str(path)) as source:
        ids = pa.ipc.open_file(source, options=ids_only)
        rows = pa.ipc.open_file(source)
        if not rows.schema.equals(schema):
            raise pa.ArrowInvalid(f"it has the columns {', '.join(rows.schema.names)}")
        for number in range(rows.num_record_batches):
            start, end = _rows_of_shard(_sound(ids.get_batch(number)).column("doc_id"), index, num_shards)
            if start < end:
                yield from _as_objects(_sound(rows.get_batch(number)).slice(start, end - start), kind)


def _as_objects(batch: pa.RecordBatch, kind: type[Row]) -> Iterator[Row]:
    """The rows of a batch, of which few at a time are Python objects: these take more room than Arrow's."""
    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
        columns = batch.slice(start, _ROWS_AT_ONCE).to_pydict()
        yield from (kind(*row) for row in zip(*columns.values(), strict=True))


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose offsets stay inside it: reading one changed on disk would otherwise end the process."""
    batch.validate(full=True)
    return batch


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Names the shard when it turns out to be damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise StepError(
            f"The shard {path.name} is damaged: {error}.",
            where=str(path),
            fix="delete the artifact and run again, it is made anew; `headwater data verify` tells of others",
        ) from error


def _rows_of_shard(ids: pa.Array, index: int, num_shards: int) -> tuple[int, int]:
    """A shard's rows are neighbours, because rows are sorted by id and a shard is a range of ids."""
    places = range(len(ids))
    start = bisect_left(places, index, key=lambda row: shard_of(ids[row].as_py(), num_shards))
    end = bisect_right(places, index, lo=start, key=lambda row: shard_of(ids[row].as_py(), num_shards))
    return start, end


def _merge_into(target: Path, paths: Sequence[Path], schema: pa.Schema) -> None:
    if schema is DOCUMENTS:
        _write_rows(target, DOCUMENTS, _by_document, merge_documents(paths, 0, 1))
    else:
        _write_rows(target, DROPPED, _by_rule, merge_dropped(paths, 0, 1))


def _write_rows(path: Path, schema: pa.Schema, key: Callable[[Row], _Key], rows: Iterable[Row]) -> None:
    with _RowWriter(path, schema, key, RUN_BATCH_CHARS) as writer:
        for row in rows:
            writer.add(row)
