"""Reading a step's journal: a few lines at a time while it grows, or whole as curves when the run is over.

The journal's writers append whole lines with one write each, yet a reader may come in the middle of one and a crash may
leave a torn one: a line counts only once its newline is there, and one that is no JSON object is counted as damaged,
never guessed at. An offset is therefore always the start of a line, and reading on from it gives each line once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

CHUNK_BYTES = 1 << 20
"""Bytes read at a time; a journal of any length is read in bounded memory."""

Curve: TypeAlias = list[tuple[int, float]]


@dataclass(frozen=True)
class Point:
    """One value of one metric.

    Attributes:
        name: Name of the metric, without the stage.
        step: Position on the stage's own axis.
        value: The value; NaN and infinities are kept.
        time_ms: Unix time in milliseconds.
    """

    name: str
    step: int
    value: float
    time_ms: int


@dataclass(frozen=True)
class Chunk:
    """Some lines of a journal.

    Attributes:
        points: Metrics, in the order they were written.
        offset: Where to read on, in bytes.
        damaged: Lines that could not be read.
    """

    points: list[Point]
    offset: int
    damaged: int


def read_chunk(journal: Path, offset: int) -> Chunk:
    """Reads complete lines from an offset on, about `CHUNK_BYTES` of them.

    Args:
        journal: Path of `journal.jsonl`; it need not exist yet.
        offset: 0, or the offset of the chunk before.

    Returns:
        The next chunk; its offset equals `offset` when there is nothing new.
    """
    if not journal.exists():
        return Chunk([], offset, 0)
    with journal.open("rb") as file:
        file.seek(offset)
        raw = file.read(CHUNK_BYTES)
        if b"\n" not in raw:
            raw += file.readline()
    raw = raw[: raw.rfind(b"\n") + 1]
    lines = [_parse(line) for line in raw.split(b"\n")[:-1]]
    points = [point for line in lines for point in line or ()]
    return Chunk(points, offset + len(raw), sum(line is None for line in lines))


def read_curves(journal: Path) -> dict[str, Curve]:
    """Every metric of a journal as (step, value) in the order of steps.

    A step that was repeated after a crash counts with its last value.
    """
    curves: dict[str, dict[int, float]] = {}
    offset = 0
    while (chunk := read_chunk(journal, offset)).offset > offset:
        offset = chunk.offset
        for point in chunk.points:
            curves.setdefault(point.name, {})[point.step] = point.value
    return {name: sorted(values.items()) for name, values in curves.items()}


def _parse(line: bytes) -> list[Point] | None:
    """The metrics of a line, none for a line of another kind; None if it is no journal line."""
    try:
        value = json.loads(line)
        if value["kind"] != "metrics":
            return []
        step, time_ms = int(value["step"]), int(float(value["time"]) * 1000)
        return [Point(str(name), step, float(number), time_ms) for name, number in value["values"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
