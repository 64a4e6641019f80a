"""Who meets whom: documents with the same URL, the same text, a band, a line or a passage in common.

Every search is the same two passes. *Scatter*: the entries of a shard, a key and a document each, go into sorted runs.
*Group*: for one range of keys after another, the entries of all runs are sorted and neighbours with one key looked at.
Both work in memory that depends on `rows_at_once` alone, except that all entries of one key are looked at together.

Entries of a key are sorted by what is best: most letters, then fewest marks, then number. So nothing depends on the
order in which documents, shards or tasks come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.dedup.config import DedupConfig
from components.dedup.runs import Range, Table, picked, read_range, sorted_by, write_run
from components.shardwise import Part, once
from components.sketch.hashing import Keys, mix
from components.sketch.shingles import digest_of_bytes
from components.sketch.sketches import iter_columns, rows_of

# In a bucket larger than this not everyone is compared with everyone: each is with the best and with its neighbours.
_ALL_PAIRS = 20
_MOST_LETTERS = (1 << 31) - 1
_MOST_CHARS = (1 << 32) - 1


@dataclass(frozen=True)
class Scattering:
    """One shard whose entries go into runs.

    Attributes:
        search: "url", "exact", "near", "lines" or "passages".
        sketches: Sketches of the shard.
        start: Number of its first document.
        config: What is searched for.
        passed_over: Runs of the numbers that take no part, by "number".
        runs: Folder for the runs; each is `<shard>-<number>.arrow`.
    """

    search: str
    sketches: Path
    start: int
    config: DedupConfig
    passed_over: Sequence[Path]
    runs: Path


def scatter(task: Scattering) -> Part:
    """Writes the runs of a shard; its part tells their names and the number of rows."""
    return once(task.runs / f"{task.sketches.stem}.json", lambda: _scatter(task))


def _scatter(task: Scattering) -> Part:
    columns, entries_of = _SEARCHES[task.search]
    names: list[str] = []
    waiting: list[Table] = []
    start, rows = task.start, 0

    def flush() -> None:
        path = task.runs / f"{task.sketches.stem}-{len(names):05d}.arrow"
        table = {name: np.concatenate([one[name] for one in waiting]) for name in waiting[0]}
        write_run(path, sorted_by(table, next(iter(table))))
        names.append(path.name)
        waiting.clear()

    for batch in iter_columns(task.sketches, ["chars", "letters", *columns]):
        numbers = np.arange(start, start + batch.num_rows, dtype=np.int64)
        start += batch.num_rows
        table = entries_of(batch, numbers, task.config)
        waiting.append(picked(table, ~np.isin(table["number"], _passed_over(task, numbers))))
        rows += len(waiting[-1]["number"])
        if sum(len(one["number"]) for one in waiting) >= task.config.rows_at_once:
            flush()
    if waiting:
        flush()
    return {"rows": rows, "runs": names}


def _passed_over(task: Scattering, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    if not task.passed_over:
        return np.zeros(0, dtype=np.int64)
    return read_range(task.passed_over, (int(numbers[0]), int(numbers[-1]) + 1))["number"].astype(np.int64)


def order_of(batch: pa.RecordBatch) -> Keys:
    """What a document is preferred by, the least being best: most letters, then fewest characters, as one number."""
    letters = np.minimum(batch.column("letters").to_numpy(), _MOST_LETTERS)
    chars = np.minimum(batch.column("chars").to_numpy(), _MOST_CHARS)
    order: Keys = ((_MOST_LETTERS - letters).astype(np.uint64) << np.uint64(32)) | chars.astype(np.uint64)
    return order


def url_key(url: str, variants: bool) -> str:
    """What makes two URLs the same; empty for what is no http(s) URL, such as the key of a row.

    Args:
        url: A canonical URL.
        variants: Whether http or https, a leading "www." and a slash at the end make no difference.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        return ""
    if not variants:
        return url
    host, slash, path = rest.removeprefix("www.").partition("/")
    return host + (slash + path).rstrip("/")


def _url_entries(batch: pa.RecordBatch, numbers: NDArray[np.int64], config: DedupConfig) -> Table:
    keys = [url_key(url, config.url_variants) for url in batch.column("url").to_pylist()]
    digests = b"".join(digest_of_bytes(key.encode("utf-8", "surrogatepass")) for key in keys)
    filled = np.array([bool(key) for key in keys], dtype=np.bool_)
    return picked(_digest_entries(digests, order_of(batch), numbers), filled)


def _exact_entries(batch: pa.RecordBatch, numbers: NDArray[np.int64], config: DedupConfig) -> Table:
    digests = b"".join(batch.column("digest").to_pylist())
    return _digest_entries(digests, order_of(batch), numbers)


def _digest_entries(digests: bytes, order: Keys, numbers: NDArray[np.int64]) -> Table:
    halves = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
    return {"key": halves[:, 0], "rest": halves[:, 1], "order": order, "number": numbers}


def _list_entries(column: str) -> Callable[[pa.RecordBatch, NDArray[np.int64], DedupConfig], Table]:
    def entries(batch: pa.RecordBatch, numbers: NDArray[np.int64], config: DedupConfig) -> Table:
        keys, counts = _flat(batch, column)
        return {"key": keys, "order": np.repeat(order_of(batch), counts), "number": np.repeat(numbers, counts)}

    return entries


def _line_entries(batch: pa.RecordBatch, numbers: NDArray[np.int64], config: DedupConfig) -> Table:
    lines, counts = _flat(batch, "lines")
    each = np.repeat(numbers, counts)
    tables = [_lines_of(lines, each, mix(lines), config.line_documents)]
    if config.host_line_documents:
        hosts = [_host_hash(url) for url in batch.column("url").to_pylist()]
        by_host = np.repeat(np.array(hosts, dtype=np.uint64), counts)
        within = _lines_of(lines, each, mix(lines ^ by_host), config.host_line_documents)
        tables.append(picked(within, by_host != 0))
    if not config.line_documents:
        tables[0] = picked(tables[0], np.zeros(len(lines), dtype=np.bool_))
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _lines_of(lines: Keys, numbers: NDArray[np.int64], keys: Keys, most: int) -> Table:
    return {"key": keys, "line": lines, "number": numbers, "most": np.full(len(lines), most, dtype=np.int64)}


def _host_hash(url: str) -> int:
    """A hash of a URL's host, never 0; 0 if it has none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return int.from_bytes(digest_of_bytes(host.encode("utf-8", "surrogatepass"))[:8], "little") | 1 if host else 0


def _flat(batch: pa.RecordBatch, column: str) -> tuple[Keys, NDArray[np.int64]]:
    rows = rows_of(batch.column(column))
    values: Keys = batch.column(column).values.to_numpy()
    return values, np.array([len(row) for row in rows], dtype=np.int64)


_Entries = Callable[[pa.RecordBatch, NDArray[np.int64], DedupConfig], Table]
_SEARCHES: dict[str, tuple[list[str], _Entries]] = {
    "url": (["url"], _url_entries),
    "exact": (["digest"], _exact_entries),
    "near": (["bands"], _list_entries("bands")),
    "lines": (["url", "lines"], _line_entries),
    "passages": (["passages"], _list_entries("passages")),
}


@dataclass(frozen=True)
class Grouping:
    """One range of keys.

    Attributes:
        search: See `Scattering`.
        runs: All runs of the search.
        between: The range.
        target: The table to write.
    """

    search: str
    runs: Sequence[Path]
    between: Range
    target: Path


def group(task: Grouping) -> Path:
    """Writes what the entries of a range of keys say, sorted by document; returns where.

    The columns: for "url" and "exact" (number, head), the head being the best of those with the same key; for "near"
    (first, second), each pair once; for "lines" and "passages" (number, hash), what is to be cut out of a document.
    """
    if not task.target.exists():
        write_run(task.target, _GROUPERS[task.search](read_range(task.runs, task.between)))
    return task.target


def _heads(entries: Table) -> Table:
    table = sorted_by(entries, "key", "rest", "order", "number")
    first = _first_of_each(table, "key", "rest")
    heads = table["number"][np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
    return sorted_by(picked({"number": table["number"], "head": heads}, ~first), "number")


def _pairs(entries: Table) -> Table:
    table = sorted_by(entries, "key", "order", "number")
    numbers: NDArray[np.int64] = table["number"]  # type: ignore[assignment]
    first = _first_of_each(table, "key")
    places = np.arange(len(first))
    starts = np.maximum.accumulate(np.where(first, places, 0))
    sizes = np.diff(np.append(np.flatnonzero(first), len(first)))
    small = (sizes <= _ALL_PAIRS)[np.cumsum(first) - 1] if len(first) else first
    with_best = np.flatnonzero(~small & ~first)
    found = [np.stack((numbers[starts[with_best]], numbers[with_best]))]
    for distance in range(1, _ALL_PAIRS):
        reached = places[distance:] - distance >= starts[distance:]
        if distance > 1:
            reached &= small[distance:]
        later = np.flatnonzero(reached) + distance
        found.append(np.stack((numbers[later - distance], numbers[later])))
    both = np.concatenate(found, axis=1)
    return distinct_pairs({"first": both.min(axis=0), "second": both.max(axis=0)})


def distinct_pairs(pairs: Table) -> Table:
    """The pairs (first, second), sorted, each once."""
    table = sorted_by(pairs, "first", "second")
    return picked(table, _first_of_each(table, "first", "second"))


def _passages(entries: Table) -> Table:
    table = sorted_by(entries, "key", "order", "number")
    again = ~_first_of_each(table, "key")
    return sorted_by(picked({"number": table["number"], "hash": table["key"]}, again), "number")


def _lines(entries: Table) -> Table:
    table = sorted_by(entries, "key", "number")
    first = _first_of_each(table, "key")
    sizes = np.diff(np.append(np.flatnonzero(first), len(first)))
    many = sizes[np.cumsum(first) - 1] > table["most"] if len(first) else first
    return sorted_by(picked({"number": table["number"], "hash": table["line"]}, many), "number")


_GROUPERS: dict[str, Callable[[Table], Table]] = {
    "url": _heads,
    "exact": _heads,
    "near": _pairs,
    "lines": _lines,
    "passages": _passages,
}


def _first_of_each(table: Table, *names: str) -> NDArray[np.bool_]:
    """Which rows of a sorted table differ from the one before."""
    size = len(table[names[0]])
    first = np.zeros(size, dtype=np.bool_)
    first[:1] = True
    for name in names:
        first[1:] |= table[name][1:] != table[name][:-1]
    return first
