"""How far a running step is, from the end of its journal.

Only the last 64 KiB are read, so that a table may ask ten times a second about a journal of any length. A line that
does not parse is one that was cut, at either end, and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAIL_BYTES = 64 * 1024
WINDOW_S = 30.0
"""Span over which the rate is taken: long enough to be steady, short enough to follow a change."""


@dataclass(frozen=True)
class Tail:
    """What the end of a journal says.

    Attributes:
        done: Units done; None if the step has not told any.
        total: Units in all, where known.
        unit: What is counted.
        note: What the step says.
        time: Unix time of the last progress line.
        rate: Units per second over the last `WINDOW_S`; None while unknown.
        metrics: The newest value of each finite metric.
    """

    done: int | None = None
    total: int | None = None
    unit: str = ""
    note: str = ""
    time: float = 0.0
    rate: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def eta_s(self, now: float) -> float | None:
        """Seconds until the count is full, counted from `now`."""
        if not self.rate or self.total is None or self.done is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate - max(0.0, now - self.time))


def read_tail(journal: Path, since: float = 0.0) -> Tail:
    """Reads the end of a journal.

    Args:
        journal: Path of `journal.jsonl`; it need not exist yet.
        since: Unix time before which lines belong to an earlier attempt and do not count.
    """
    if not journal.exists():
        return Tail()
    lines = [line for line in _last_lines(journal) if line.get("time", 0.0) >= since]
    metrics: dict[str, float] = {}
    for line in lines:
        if line.get("kind") == "metrics":
            metrics.update({name: value for name, value in line["values"].items() if not isinstance(value, str)})
    progress = [line for line in lines if line.get("kind") == "progress"]
    if not progress:
        return Tail(metrics=metrics)
    last = progress[-1]
    return Tail(last["done"], last["total"], last["unit"], last.get("note", ""), last["time"], _rate(progress), metrics)


def _last_lines(journal: Path) -> list[dict[str, Any]]:
    with journal.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        raw = file.read().splitlines()
    lines = []
    for text in raw:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _rate(progress: list[dict[str, Any]]) -> float | None:
    """Units per second between the last line and the first one of the same count in the window."""
    last = first = progress[-1]
    for line in reversed(progress):
        if line["unit"] != last["unit"] or line["done"] > first["done"] or last["time"] - line["time"] > WINDOW_S:
            break
        first = line
    span = last["time"] - first["time"]
    return (last["done"] - first["done"]) / span if span > 0 and last["done"] > first["done"] else None
