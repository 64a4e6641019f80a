"""The census: who the documents of an artifact are, counted column by column.

Shards are counted side by side and batch by batch with Arrow's own kernels; no document becomes a Python object. What
is kept of a shard are tables of counts, whose size depends on the number of languages, hosts and licences, and on the
lengths met, kept to three digits: percentiles are right within one in a hundred.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS = ("lang", "script", "source", "host", "licence", "opt_out")
OTHERS = "("
"""How the row begins that adds up what is not listed by name."""
PERCENTILES = (0, 10, 25, 50, 75, 90, 99, 100)
_COLUMNS = ("source", "url", "lang", "text", "script", "date", "licence", "opt_out", "cluster_size")
_HOST = r"^[a-z][a-z0-9+.-]*://(?P<host>[^/]+)"


@dataclass
class Census:
    """Counts of documents.

    Attributes:
        documents: All of them.
        chars: Characters of their texts.
        groups: For each of `GROUPS`, documents and characters by value; "" where the document says nothing.
        lengths: Documents by characters, three digits of them.
        months: Documents by "YYYY-MM" of their date; "" for those without.
        clusters: Documents by how many near duplicates they stand for, themselves included.
        first_date: Earliest date; empty if none has one.
        last_date: Latest date.
        digest: SHA-256 over the names and bytes of the shards; empty where nobody asked for it.
    """

    documents: int = 0
    chars: int = 0
    groups: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {name: {} for name in GROUPS})
    lengths: Counter[int] = field(default_factory=Counter)
    months: Counter[str] = field(default_factory=Counter)
    clusters: Counter[int] = field(default_factory=Counter)
    first_date: str = ""
    last_date: str = ""
    digest: str = ""

    def add(self, other: Census) -> None:
        """Adds another census of other documents."""
        self.documents += other.documents
        self.chars += other.chars
        for name, table in other.groups.items():
            for value, (documents, chars) in table.items():
                mine = self.groups[name].setdefault(value, [0, 0])
                mine[0] += documents
                mine[1] += chars
        self.lengths.update(other.lengths)
        self.months.update(other.months)
        self.clusters.update(other.clusters)
        dates = [date for date in (self.first_date, other.first_date) if date]
        self.first_date = min(dates, default="")
        self.last_date = max(self.last_date, other.last_date)

    def percentiles(self) -> dict[str, int]:
        """Characters of a document at each of `PERCENTILES`, by nearest rank; empty without documents."""
        ranks = iter([(name, max(1, -(-name * self.documents // 100))) for name in PERCENTILES])
        found: dict[str, int] = {}
        seen, wanted = 0, next(ranks, None)
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            while wanted is not None and seen >= wanted[1]:
                found[f"p{wanted[0]}"] = length
                wanted = next(ranks, None)
        return found

    def by(self, group: str) -> dict[str, dict[str, int]]:
        """A group's table, the value with most documents first."""
        rows = sorted(self.groups[group].items(), key=lambda item: (-item[1][0], item[0]))
        return {value: {"documents": counts[0], "chars": counts[1]} for value, counts in rows}


def count_shard(path: Path) -> Census:
    """The census of one document shard, with its digest."""
    import pyarrow as pa

    from components.documents import DOCUMENTS

    found = Census()
    options = pa.ipc.IpcReadOptions(included_fields=[DOCUMENTS.get_field_index(name) for name in _COLUMNS])
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            found.add(_count_batch(reader.get_batch(number)))
    with path.open("rb") as file:
        found.digest = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def count_all(shards: Sequence[Path]) -> Census:
    """The census of some shards, one after the other."""
    return merged([path.name for path in shards], [count_shard(path) for path in shards])


def merged(names: Sequence[str], parts: Sequence[Census]) -> Census:
    """One census out of those of all shards; its digest covers names and bytes of the shards, in their order."""
    total, digest = Census(), hashlib.sha256()
    for name, part in zip(names, parts, strict=True):
        total.add(part)
        digest.update(f"{name} {part.digest}\n".encode())
    total.digest = digest.hexdigest()
    return total


def top_of(table: Mapping[str, Mapping[str, int]], limit: int) -> dict[str, dict[str, int]]:
    """The first rows of a table; the others, if there are any, as one row "(others)"."""
    rows = {value: dict(counts) for value, counts in table.items()}
    if len(rows) <= limit:
        return rows
    kept = dict(list(rows.items())[:limit])
    rest = list(rows.values())[limit:]
    return kept | {f"{OTHERS}{len(rest)} others)": {name: sum(row[name] for row in rest) for name in rest[0]}}


def _count_batch(batch: pa.RecordBatch) -> Census:
    import pyarrow.compute as pc

    columns = {name: batch.column(name) for name in _COLUMNS}
    chars = pc.cast(pc.utf8_length(columns["text"]), "int64")
    host = pc.fill_null(pc.struct_field(pc.extract_regex(columns["url"], _HOST), "host"), "")
    dates = pc.filter(columns["date"], pc.not_equal(columns["date"], ""))
    found = Census(documents=batch.num_rows, chars=pc.sum(chars).as_py() or 0)
    for name in GROUPS:
        column = pc.fill_null(host if name == "host" else columns[name], "")
        found.groups[name] = dict(_grouped(column, chars))
    found.lengths = Counter(_rounded(chars.to_numpy(zero_copy_only=False).tolist()))
    found.months = Counter(_values(pc.utf8_slice_codeunits(columns["date"], 0, 7)))
    found.clusters = Counter(_values(columns["cluster_size"]))
    if len(dates):
        ends = pc.min_max(dates)
        found.first_date, found.last_date = ends["min"].as_py(), ends["max"].as_py()
    return found


def _grouped(column: pa.Array, chars: pa.Array) -> Iterator[tuple[str, list[int]]]:
    import pyarrow as pa

    table = pa.table({"value": column, "chars": chars}).group_by("value")
    sums = table.aggregate([("chars", "count"), ("chars", "sum")]).to_pydict()
    for value, documents, total in zip(sums["value"], sums["chars_count"], sums["chars_sum"], strict=True):
        yield value, [documents, total]


def _values(column: pa.Array) -> dict[Any, int]:
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}


def _rounded(lengths: Sequence[int]) -> Iterator[int]:
    for length in lengths:
        step = 10 ** max(0, len(str(length)) - 3)
        yield length // step * step
