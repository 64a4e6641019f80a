"""Sorted tables of numbers on disk: how the passes of dedup bring together what belongs together in little memory.

A task writes a *run*: columns of numbers, sorted by the first, as one raw Arrow batch. A later task reads from all runs
the rows whose first column lies in its range: a binary search in the memory map of each, and a copy of that slice. So
to sort and cut a large table takes as much memory as one range of it, and no task writes a file for each other task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.publish import publish

Numbers: TypeAlias = NDArray[np.uint64] | NDArray[np.int64] | NDArray[np.float64]
Table: TypeAlias = dict[str, Numbers]
Range: TypeAlias = tuple[int, int]

KEYS = 1 << 64


def write_run(path: Path, table: Mapping[str, Numbers]) -> None:
    """Writes a table, whose rows must be sorted by the first column."""
    batch = pa.record_batch([pa.array(column) for column in table.values()], names=list(table))
    schema = batch.schema
    with publish(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def read_range(paths: Iterable[Path], between: Range) -> Table:
    """The rows of all runs whose first column lies in [low, high), one run after the other.

    Args:
        paths: The runs, at least one; the columns are those of the first run.
        between: The range.
    """
    slices = [_slice(path, between) for path in paths]
    return {name: np.concatenate([one[name] for one in slices]) for name in slices[0]}


def read_all(paths: Sequence[Path], columns: Mapping[str, type]) -> Table:
    """All rows of some runs whose first column is a document's number, sorted by it.

    Args:
        paths: The runs; may be none.
        columns: Names and types of the columns.
    """
    if not paths:
        return {name: np.zeros(0, dtype=kind) for name, kind in columns.items()}
    return sorted_by(read_range(paths, (0, KEYS)), *list(columns)[:2])


def key_ranges(num_rows: int, rows_at_once: int) -> list[Range]:
    """Equal ranges of 64-bit hashes, so many that about `rows_at_once` rows fall into each."""
    parts = max(1, -(-num_rows // rows_at_once))
    edges = [KEYS * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def even_ranges(paths: Sequence[Path], rows_at_once: int) -> list[Range]:
    """Ranges of the first column with about `rows_at_once` rows each, by a sample of the runs; they cover all."""
    samples = [_sample(path, max(1, rows_at_once // 16)) for path in paths]
    found = np.sort(np.concatenate(samples)) if samples else np.zeros(0, dtype=np.int64)
    inner = np.unique(found[16::16]).tolist()
    edges = [0, *(edge for edge in inner if edge > 0), np.iinfo(np.int64).max]
    return list(pairwise(edges))


def _sample(path: Path, every: int) -> Numbers:
    with pa.memory_map(str(path)) as source:
        column: Numbers = pa.ipc.open_file(source).get_batch(0).column(0).to_numpy()[::every].copy()
    return column


def _slice(path: Path, between: Range) -> Table:
    low, high = between
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
        first = batch.column(0).to_numpy()
        kind = first.dtype.type
        start = int(np.searchsorted(first, kind(low)))
        end = len(first) if high >= np.iinfo(kind).max else int(np.searchsorted(first, kind(high)))
        names = batch.schema.names
        return {name: batch.column(index).to_numpy()[start:end].copy() for index, name in enumerate(names)}


def sorted_by(table: Table, *names: str) -> Table:
    """A table with its rows sorted by some columns, the first one counting most."""
    order = np.lexsort([table[name] for name in reversed(names)])
    return {name: column[order] for name, column in table.items()}


def picked(table: Table, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Table:
    """Some rows of a table."""
    return {name: column[rows] for name, column in table.items()}
