"""Reading a step's journal: a few lines at a time while it grows, or whole as curves when the run is over.

The journal's writers append whole lines with one write each, yet a reader may come in the middle of one and a crash may
leave a torn one: a line counts only once its newline is there, and one that is no JSON object is counted as damaged,
never guessed at. An offset is therefore always the start of a line, and reading on from it gives each line once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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


def read_chunk(journal: Path, offset: int, limit: int = CHUNK_BYTES) -> Chunk:
    """Reads complete lines from an offset on, about `limit` bytes of them.

    Args:
        journal: Path of `journal.jsonl`; it need not exist yet.
        offset: 0, or the offset of the chunk before.
        limit: Bytes to read; a line that is longer is read whole.

    Returns:
        The next chunk; its offset equals `offset` when there is nothing new.
    """
    if not journal.exists():
        return Chunk([], offset, 0)
    with journal.open("rb") as file:
        file.seek(offset)
        raw = file.read(limit)
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
    return {name: sorted(values.items()) for name, values in _values(_chunks(journal)).items()}


@dataclass
class Repeats:
    """Finds the points of a journal that an earlier line of it has said: the same metric, step and value.

    A step that continues after a crash begins at its last checkpoint and says again what came after that; where it
    comes to the same numbers, they are one row, not two. Which points are repeats follows from the lines before them
    alone, so a second reader comes to the same rows. Until a journal goes back for the first time, only the highest
    step of each metric is kept in memory.

    Attributes:
        journal: Path of `journal.jsonl`.
    """

    journal: Path
    _highest: dict[str, int] = field(default_factory=dict)
    _said: dict[str, dict[int, float]] | None = None

    def skip(self, offset: int) -> Repeats:
        """Goes on from an offset up to which the journal was read before."""
        for chunk in _chunks(self.journal, offset):
            self._rises(chunk.points)
        return self

    def fresh(self, points: Sequence[Point], offset: int) -> list[Point]:
        """The points that nothing before them has said.

        Args:
            points: The points of a chunk.
            offset: Where that chunk begins.
        """
        if self._said is None:
            if self._rises(points):
                return list(points)
            self._said = _values(_chunks(self.journal, offset))
        return [point for point in points if self._is_new(point, self._said.setdefault(point.name, {}))]

    def _rises(self, points: Sequence[Point]) -> bool:
        """Whether every metric only goes on to higher steps."""
        rises = True
        for point in points:
            rises &= point.step > self._highest.get(point.name, point.step - 1)
            self._highest[point.name] = max(point.step, self._highest.get(point.name, point.step))
        return rises

    @staticmethod
    def _is_new(point: Point, said: dict[int, float]) -> bool:
        known = point.step in said and equal(said[point.step], point.value)
        said[point.step] = point.value
        return not known


def read_last(journal: Path) -> dict[str, Point]:
    """The newest point of the highest step of each metric, repeats left out."""
    last: dict[str, Point] = {}
    repeats, offset = Repeats(journal), 0
    for chunk in _chunks(journal):
        for point in repeats.fresh(chunk.points, offset):
            if point.name not in last or point.step >= last[point.name].step:
                last[point.name] = point
        offset = chunk.offset
    return last


def equal(one: float, other: float) -> bool:
    """Equality that holds for NaN too."""
    return one == other or (math.isnan(one) and math.isnan(other))


def _chunks(journal: Path, end: int | None = None) -> Iterator[Chunk]:
    """The chunks of a journal up to its end, or to an offset."""
    offset = 0
    while end is None or offset < end:
        limit = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - offset)
        chunk = read_chunk(journal, offset, limit)
        if chunk.offset == offset:
            return
        offset = chunk.offset
        yield chunk


def _values(chunks: Iterator[Chunk]) -> dict[str, dict[int, float]]:
    """The last value of each step of each metric."""
    values: dict[str, dict[int, float]] = {}
    for chunk in chunks:
        for point in chunk.points:
            values.setdefault(point.name, {})[point.step] = point.value
    return values


def _parse(line: bytes) -> list[Point] | None:
    """The metrics of a line, none for a line of another kind; None if it is no journal line."""
    try:
        value = json.loads(line)
        if value["kind"] != "metrics":
            return []
        step, time_ms = int(value["step"]), round(float(value["time"]) * 1000)
        return [Point(str(name), step, float(number), time_ms) for name, number in value["values"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
