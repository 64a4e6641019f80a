"""From sequences of documents to the files of a plan: windows are packed apart, then written one after the other.

A window is some neighbouring entries of one group's sequence, so the rows depend on the documents alone, not on shards
or workers. Finished windows are kept in scratch. Files are put together in mapped memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from components.pack.best_fit import Packed, pack_alone, pack_best_fit
from components.pack.sequence import Sequence
from components.shards.plan import group_path, map_columns, rows_path, write_columns
from components.shardwise import Part, once

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Window:
    """Documents that are packed together. Picklable.

    Attributes:
        sequence: The group's documents.
        strategy: "best_fit" or "document".
        length: Tokens of a row.
        start: First entry.
        end: Entry after the last.
        output: Where the rows go, less the ending.
    """

    sequence: Sequence
    strategy: str
    length: int
    start: int
    end: int
    output: Path


def windows_of(sequence: Sequence, strategy: str, length: int, window: int, folder: Path) -> list[Window]:
    """The windows of a group, in order."""
    starts = range(0, sequence.length, window)
    return [
        Window(sequence, strategy, length, start, min(start + window, sequence.length), folder / f"{start:012d}")
        for start in starts
    ]


def pack_window(window: Window) -> Part:
    """Packs a window, unless that was done; returns rows, targets, slices, used, cropped and padding."""
    return once(window.output.with_suffix(".json"), lambda: _pack(window))


def _pack(window: Window) -> Part:
    pack = pack_best_fit if window.strategy == "best_fit" else pack_alone
    packed: Packed = pack(*window.sequence.read(window.start, window.end), window.length)
    slices: dict[str, NDArray[Any]] = {
        "positions": np.array(packed.positions, np.int64),
        "sizes": np.array(packed.sizes, np.int32),
    }
    rows: dict[str, NDArray[Any]] = {
        "counts": np.array(packed.counts, np.int64),
        "targets": np.array(packed.targets, np.int32),
    }
    write_columns(window.output.with_suffix(".slices"), slices)
    write_columns(window.output.with_suffix(".rows"), rows)
    counts = {"used": packed.used, "cropped": packed.cropped, "padding": packed.padding}
    return {"rows": len(packed.counts), "targets": sum(packed.targets), "slices": len(packed.positions), **counts}


def write_table(output: Path, index: int, windows: Items[Window], parts: Items[Part], work: Path) -> Part:
    """Writes the rows of one group; returns its counts."""
    total = {name: sum(int(str(part[name])) for part in parts) for name in parts[0]} if parts else {}
    num_slices, num_rows = total.pop("slices", 0), total.get("rows", 0)
    columns = {
        "positions": _array(work / "positions", np.int64, num_slices),
        "sizes": _array(work / "sizes", np.int32, num_slices),
        "first": _array(work / "first", np.int64, num_rows + 1),
        "targets": _array(work / "targets", np.int32, num_rows + 1),
    }
    slices_done = rows_done = 0
    for window in windows:
        slices, rows = (map_columns(window.output.with_suffix(kind)) for kind in (".slices", ".rows"))
        num_slices, num_rows = len(slices["positions"]), len(rows["counts"])
        for name, values in slices.items():
            columns[name][slices_done : slices_done + num_slices] = values
        columns["first"][rows_done + 1 : rows_done + num_rows + 1] = slices_done + np.cumsum(rows["counts"])
        columns["targets"][rows_done : rows_done + num_rows] = rows["targets"]
        slices_done, rows_done = slices_done + num_slices, rows_done + num_rows
    write_columns(group_path(output, index), {name: columns[name] for name in ("positions", "sizes")})
    write_columns(rows_path(output, index), {name: columns[name] for name in ("first", "targets")})
    return {"rows": rows_done, "targets": 0, "used": 0, "cropped": 0, "padding": 0, **total, "tail": 0}


def write_runs(output: Path, index: int, sequence: Sequence, length: int, work: Path) -> Part:
    """Writes the runs of one group; returns its counts."""
    starts = _array(work / "starts", np.int64, sequence.length + 1)
    positions = _array(work / "positions", np.int64, sequence.length + 1)
    total = 0
    for start in range(0, sequence.length, _CHUNK):
        end = min(start + _CHUNK, sequence.length)
        positions[start:end], sizes = sequence.read(start, end)
        starts[start + 1 : end + 1] = total + np.cumsum(sizes)
        total += int(sizes.sum())
    write_columns(group_path(output, index), {"starts": starts, "positions": positions})
    rows = max(0, total - 1) // length
    used = rows * length + 1 if rows else 0
    return {
        "rows": rows,
        "targets": rows * length,
        "used": used,
        "cropped": 0,
        "padding": 0,
        "tail": total - used,
    }


def empty_folder(folder: Path) -> Path:
    """Makes a folder with nothing in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _array(path: Path, dtype: DTypeLike, size: int) -> NDArray[Any]:
    """Zeros in a mapped file: memory stays flat whatever their number."""
    if not size:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="w+", shape=(size,))
