"""Finding a document: by id, by the beginning of an id, by URL or by host, in shards that stay on the disk.

A document's shard follows from its id, and rows are sorted by id, so an id is looked for in one file of an artifact;
only that file's column of ids is decoded, batch by batch. URLs are in no order: for one of them the URL column of every
shard is read, about a hundred bytes a document and never a text.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.card.funnel import frontiers, open_frontier
from components.crawl.urls import normalise
from components.documents import Document, Dropped, dropped_paths, shard_of, shard_paths

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ID_CHARS = 4
_ID = re.compile(r"[0-9a-f]{4,32}")
_NEIGHBOURS = 40
_CANDIDATES = 50


@dataclass(frozen=True)
class Place:
    """Where a row lies.

    Attributes:
        shard: Name of the file.
        row: Number of the row in it, from 0.
    """

    shard: str
    row: int


@dataclass(frozen=True)
class Name:
    """What a document is called.

    Attributes:
        doc_id: Its id.
        url: Its URL or key.
    """

    doc_id: bytes
    url: str


def is_id(text: str) -> bool:
    """Tells whether a word can only be the beginning of a document's id: 4 to 32 hex digits."""
    return bool(_ID.fullmatch(text.lower()))


def spellings(text: str) -> list[str]:
    """The URLs or keys that a person may mean: the word itself, and as the crawler would write it."""
    whole = [text] if "://" in text else [f"http://{text}", f"https://{text}"]
    found = [text, *map(normalise, whole)]
    return list(dict.fromkeys(url for url in found if url is not None))


def kept_row(artifact: Path, doc_id: bytes) -> tuple[Place, Document] | None:
    """A document of an artifact and where it lies; None if it is not there."""
    path = _shard(shard_paths(artifact), doc_id)
    found = row_at(path, doc_id) if path else None
    return None if found is None else (found[0], Document(**found[1]))


def dropped_rows(artifact: Path, doc_id: bytes) -> list[Dropped]:
    """What the ledger of an artifact says of a document."""
    path = _shard(dropped_paths(artifact), doc_id)
    return [Dropped(**row) for row in _rows_at(path, doc_id)] if path else []


def side_row(artifact: Path, table: str, doc_id: bytes) -> dict[str, Any] | None:
    """A document's row in a table beside the documents, such as "scores"; None if it is not there."""
    path = _shard(sorted((artifact / table).glob("shard-*.arrow")), doc_id)
    found = row_at(path, doc_id) if path else None
    return None if found is None else found[1]


def names_with_prefix(artifact: Path, prefix: str) -> set[Name]:
    """Documents, kept or dropped, whose id begins with some hex digits."""
    low, high = (bytes.fromhex(prefix.lower().ljust(32, digit)) for digit in "0f")
    found: set[Name] = set()
    for paths in (shard_paths(artifact), dropped_paths(artifact)):
        for path in paths[shard_of(low, len(paths)) : shard_of(high, len(paths)) + 1] if paths else []:
            for doc_id, url in _names(path):
                if low <= doc_id <= high:
                    found.add(Name(doc_id, url))
    return found


def names_with_url(artifact: Path, urls: Sequence[str]) -> set[Name]:
    """Documents, kept or dropped, that have one of some URLs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(urls, pa.string())
    return set(_matching(artifact, lambda column: pc.is_in(column, wanted)))


def names_of_host(artifact: Path, host: str) -> set[Name]:
    """Documents, kept or dropped, of a host (with its port, unless that is the default one)."""
    import pyarrow.compute as pc

    pattern = rf"^[a-z][a-z0-9+.-]*://{re.escape(host.lower())}(/|$)"
    return set(_matching(artifact, lambda column: pc.match_substring_regex(column, pattern)))


def near_urls(artifacts: Sequence[Path], url: str, number: int = 3) -> list[str]:
    """The URLs most like one that is not there, out of crawls and documents artifacts."""
    near: set[str] = set()
    for folder in artifacts:
        found = _frontier_neighbours(folder, url) if frontiers(folder) else _kept_and_dropped(folder)
        near.update(heapq.nlargest(_CANDIDATES, found, key=lambda one: (_alike(one, url), one)))
    return difflib.get_close_matches(url, sorted(near), n=number, cutoff=0.3)


def row_at(path: Path, doc_id: bytes) -> tuple[Place, dict[str, Any]] | None:
    """The first row of a sorted file with an id, and where it lies."""
    found = batch_at(path, doc_id)
    return None if found is None else (found[0], found[1].to_pylist()[0])


def batch_at(path: Path, doc_id: bytes) -> tuple[Place, pa.RecordBatch] | None:
    """The same row as a batch of its own: its columns are read from the file when somebody asks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with pa.memory_map(str(path)) as source:
        whole = pa.ipc.open_file(source)
        ids = _ids(source, whole.schema)
        before = 0
        for number in range(ids.num_record_batches):
            column = ids.get_batch(number).column(0)
            if len(column) and column[0].as_py() > doc_id:
                return None
            row = pc.index(column, pa.scalar(doc_id, column.type)).as_py()
            if row >= 0:
                return Place(path.name, before + row), whole.get_batch(number).slice(row, 1)
            before += len(column)
    return None


def _rows_at(path: Path, doc_id: bytes) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    with pa.memory_map(str(path)) as source:
        whole = pa.ipc.open_file(source)
        ids = _ids(source, whole.schema)
        for number in range(ids.num_record_batches):
            column = ids.get_batch(number).column(0)
            if len(column) and column[0].as_py() > doc_id:
                return
            mask = pc.equal(column, pa.scalar(doc_id, column.type))
            if pc.any(mask).as_py():
                yield from whole.get_batch(number).filter(mask).to_pylist()


def _ids(source: pa.NativeFile, schema: pa.Schema) -> pa.RecordBatchFileReader:
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index("doc_id")])
    return pa.ipc.open_file(source, options=options)


def _shard(paths: Sequence[Path], doc_id: bytes) -> Path | None:
    return paths[shard_of(doc_id, len(paths))] if paths else None


def _matching(artifact: Path, test: Callable[[pa.Array], pa.Array]) -> Iterator[Name]:
    for batch in named_batches([*shard_paths(artifact), *dropped_paths(artifact)]):
        mask = test(batch.column("url"))
        for row in batch.filter(mask).to_pylist():
            yield Name(row["doc_id"], row["url"])


def _alike(one: str, other: str) -> int:
    """Characters that two URLs have in common before they differ."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def _kept_and_dropped(artifact: Path) -> Iterator[str]:
    for batch in named_batches([*shard_paths(artifact), *dropped_paths(artifact)]):
        yield from batch.column("url").to_pylist()


def _names(path: Path) -> Iterator[tuple[bytes, str]]:
    for batch in named_batches([path]):
        yield from zip(batch.column("doc_id").to_pylist(), batch.column("url").to_pylist(), strict=True)


def named_batches(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Ids and URLs of some files, batch by batch; nothing else is decoded."""
    import pyarrow as pa

    for path in paths:
        with pa.memory_map(str(path)) as source:
            schema = pa.ipc.open_file(source).schema
            fields = [schema.get_field_index(name) for name in ("doc_id", "url")]
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def _frontier_neighbours(crawl: Path, url: str) -> Iterator[str]:
    """URLs beside one in the order of the alphabet, by the frontier's own index."""
    before = "SELECT url FROM urls WHERE url <= ? ORDER BY url DESC LIMIT ?"
    after = "SELECT url FROM urls WHERE url > ? ORDER BY url LIMIT ?"
    for path in frontiers(crawl):
        with closing(open_frontier(path)) as database:
            for query in (before, after):
                yield from (found for (found,) in database.execute(query, (url, _NEIGHBOURS)))
