"""The plan of training rows: which slices of the line of ids share a row, for each group of documents.

Two forms. `Runs` (strategy "concat") joins documents to a stream and cuts it every `length` ids: row r holds the
`length + 1` ids from `r * length` on, so neighbours share one id and each id but the first is a target exactly once;
all that is stored are the runs of neighbouring documents of a group, and for a single group nothing at all. `Table`
("best_fit", "document") lists the slices of every row. Both are memory-mapped: nothing grows with the corpus.

Layout of a pack artifact:
    plan.json           {"strategy", "length", "tokens" (SHA-256 of the tokens' meta.json), "group", "repeat",
                         "groups": [{"name", "file", "documents", "rows", "targets", "tokens", "repeated", "used",
                                     "cropped", "tail", "padding"}],
                         "total": the same sums}
    groups/group-00000.arrow    for concat    starts, positions                 (one row a run)
                                otherwise     positions, sizes, and in rows-00000.arrow: first, targets
    For every group: tokens + repeated = used + cropped + tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.errors import StepError
from components.publish import publish, read_json, sha256_of
from components.shards.corpus import IntArray, Spans, TokenSplit
from components.shards.verify import META

FORMAT = 1
ALL = ""
"""Name of the only group where documents are not grouped."""

_SCAN = 1 << 20  # slices looked at together when a document's rows are searched


class Rows(Protocol):
    """The rows of one group."""

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""

    def spans(self, rows: IntArray) -> Spans:
        """The slices that make up some rows [N]."""

    def targets(self, rows: IntArray) -> IntArray:
        """Number of scored targets of some rows [N]."""

    def holding(self, position: int, size: int) -> IntArray:
        """The rows that hold any of the ids at [position, position + size), ascending."""


@dataclass(frozen=True)
class Runs:
    """Rows cut out of a stream of runs.

    Attributes:
        length: Tokens of a row.
        starts: Place of each run in the stream, and at the end the size of the stream; ascending.
        positions: Position of each run's first id. A run lies within one batch and begins with a document.
    """

    length: int
    starts: IntArray
    positions: IntArray

    @classmethod
    def whole(cls, split: TokenSplit, length: int) -> Runs:
        """All documents of a split in their order."""
        return cls(length, split.token_starts, split.token_starts[:-1])

    @property
    def num_tokens(self) -> int:
        """Ids in the stream."""
        return int(self.starts[-1])

    @property
    def num_rows(self) -> int:
        """Whole rows of the stream."""
        return max(0, self.num_tokens - 1) // self.length

    def spans(self, rows: IntArray) -> Spans:
        """See `Rows`; a last row that the stream does not fill may be asked for too."""
        low = rows * self.length
        high = np.minimum(low + self.length + 1, self.num_tokens)
        first = np.searchsorted(self.starts, low, side="right") - 1
        counts = np.searchsorted(self.starts, high, side="left") - first
        lines, runs = _expand(first, counts)
        starts = self.starts[runs]
        begin, end = np.maximum(starts, low[lines]), np.minimum(self.starts[runs + 1], high[lines])
        return Spans(lines, begin - low[lines], self.positions[runs] + begin - starts, end - begin)

    def targets(self, rows: IntArray) -> IntArray:
        """See `Rows`: rows are always full."""
        return np.full(len(rows), self.length, dtype=np.int64)

    def holding(self, position: int, size: int) -> IntArray:
        """See `Rows`."""
        found = [np.empty(0, dtype=np.int64)]
        for runs in _chunks(len(self.positions)):
            positions, starts = self.positions[runs], self.starts[runs.start : runs.stop + 1]
            inside = (positions < position + size) & (positions + np.diff(starts) > position)
            for run in np.flatnonzero(inside).tolist():
                begin = int(starts[run]) + max(0, position - int(positions[run]))
                end = min(int(starts[run + 1]), int(starts[run]) + position + size - int(positions[run]))
                found.append(np.arange(-(-(begin - self.length) // self.length), (end - 1) // self.length + 1))
        rows: IntArray = np.unique(np.concatenate(found))
        return rows[(rows >= 0) & (rows < self.num_rows)]


@dataclass(frozen=True)
class Table:
    """Rows as lists of slices.

    Attributes:
        first: Number of each row's first slice, and at the end the number of slices; int64 [rows + 1].
        scored: Scored targets of each row; int32 [rows].
        positions: Position of each slice's first id; int64 [slices].
        sizes: Ids of each slice; int32 [slices].
    """

    first: IntArray
    scored: NDArray[np.int32]
    positions: IntArray
    sizes: NDArray[np.int32]

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self.first) - 1

    def spans(self, rows: IntArray) -> Spans:
        """See `Rows`."""
        first = self.first[rows]
        counts = self.first[rows + 1] - first
        lines, slices = _expand(first, counts)
        sizes = self.sizes[slices].astype(np.int64)
        ends = np.cumsum(sizes)
        before = np.concatenate([[0], ends])[np.cumsum(counts) - counts]  # ids of all rows before
        return Spans(lines, ends - sizes - before[lines], self.positions[slices], sizes)

    def targets(self, rows: IntArray) -> IntArray:
        """See `Rows`."""
        return self.scored[rows].astype(np.int64)

    def holding(self, position: int, size: int) -> IntArray:
        """See `Rows`."""
        found = [np.empty(0, dtype=np.int64)]
        for slices in _chunks(len(self.positions)):
            positions = self.positions[slices]
            inside = (positions < position + size) & (positions + self.sizes[slices] > position)
            numbers = np.flatnonzero(inside) + slices.start
            found.append(np.searchsorted(self.first, numbers, side="right") - 1)
        rows: IntArray = np.unique(np.concatenate(found))
        return rows


@dataclass(frozen=True)
class Plan:
    """The rows of every group.

    Attributes:
        length: Tokens of a row; rows have one id more.
        groups: Rows by the name of the group, by name.
    """

    length: int
    groups: Mapping[str, Rows]


def concat_plan(split: TokenSplit, length: int) -> Plan:
    """The plan without a pack artifact: all documents in their order, cut every `length` ids."""
    return Plan(length, {ALL: Runs.whole(split, length)})


def open_plan(folder: Path, tokens: Path) -> Plan:
    """Opens a pack artifact.

    Args:
        folder: The artifact.
        tokens: The tokens artifact whose rows are read.

    Raises:
        StepError: If it is damaged, or was made of other tokens.
    """
    fix = "delete the artifact of the pack step and run again; it is made anew"
    try:
        about = read_json(folder / "plan.json")
        if about["tokens"] != sha256_of(tokens / META):
            raise StepError(
                "The plan of rows was made of other tokens than these.",
                where=str(folder),
                fix=f"pack {tokens} and give that plan",
            )
        groups: list[dict[str, Any]] = about["groups"]  # type: ignore[assignment]
        length = int(str(about["length"]))
        found = {group["name"]: _open_group(folder, str(about["strategy"]), length, group) for group in groups}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StepError(f"The plan of rows cannot be read: {error}.", where=str(folder), fix=fix) from error
    return Plan(length, dict(sorted(found.items())))


def map_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a file that `write_columns` wrote, mapped."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as file:
        batch = file.get_batch(0)
    return {name: batch.column(name).to_numpy() for name in batch.schema.names}


def write_columns(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays of one length as one uncompressed record batch, without copying them."""
    batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns.values()], names=list(columns))
    with (
        publish(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as out,
    ):
        out.write_batch(batch)


def group_path(folder: Path, index: int) -> Path:
    """Where the slices or runs of a group are."""
    return folder / "groups" / f"group-{index:05d}.arrow"


def rows_path(folder: Path, index: int) -> Path:
    """Where the rows of a group are, for a `Table`."""
    return folder / "groups" / f"rows-{index:05d}.arrow"


def _open_group(folder: Path, strategy: str, length: int, group: Mapping[str, Any]) -> Rows:
    columns = map_columns(group_path(folder, int(group["file"])))
    if strategy == "concat":
        rows: Rows = Runs(length, columns["starts"], columns["positions"][:-1])
    else:
        table = map_columns(rows_path(folder, int(group["file"])))
        rows = Table(table["first"], table["targets"][:-1], columns["positions"], columns["sizes"])
    if rows.num_rows != group["rows"]:
        raise ValueError(f"group {group['name'] or 'all'} has {rows.num_rows} rows instead of {group['rows']}")
    return rows


def _expand(first: IntArray, counts: IntArray) -> tuple[IntArray, IntArray]:
    """For each line its `counts` numbers from `first` on: the line of each number, and the numbers."""
    lines = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(lines)) - np.repeat(np.cumsum(counts) - counts, counts)
    return lines, first[lines] + within


def _chunks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _SCAN, size)) for start in range(0, size, _SCAN))
