"""Ticks: when a schedule fires, and the record that makes each tick happen exactly once.

A tick is an instant in UTC. Its record `<store>/schedules/<name>/ticks/<utc>.json` is created exclusively: of several
servers one gets the tick and the others see that it is taken. Where a server has got to is the newest record, never its
own memory, so a restart, a second server or a clock that jumps back neither doubles nor loses a tick.

Daylight saving: a job at a fixed local time runs once on every day it names. A time that the clocks jump over runs at
the first minute after the gap; a time that comes twice runs the first time. Jobs that name every hour or minute (`*`)
follow elapsed time. This is what Debian's cron does and what the cronsim library computes.

States of a record: "claimed" (a server has it and is starting the run), "started", "skipped", "failed", and "missed",
one record for a whole range of ticks that passed while no server ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.publish import publish_json, publish_new, read_json
from pipelines.schedule.entry import Entry, folder_of

COUNT_LIMIT = 10_000
"""Ticks of a missed range that are counted one by one; a longer range says only that it was longer."""

_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Tick:
    """The record of a tick.

    Attributes:
        tick: The instant, ISO 8601 in UTC; the first of the range where the state is "missed".
        state: "claimed", "started", "skipped", "failed" or "missed".
        run: Id of the run it started.
        reason: Why it was skipped, failed or missed.
        until: End of a missed range, ISO 8601 in UTC.
        count: Ticks in a missed range; None for more than `COUNT_LIMIT`.
        recorded: When this was written, ISO 8601 in UTC.
    """

    tick: str
    state: str
    run: str | None = None
    reason: str = ""
    until: str | None = None
    count: int | None = None
    recorded: str = ""

    @property
    def end(self) -> datetime:
        """The instant up to which this record answers for the schedule."""
        return datetime.fromisoformat(self.until or self.tick)


def ticks_after(entry: Entry, after: datetime) -> Iterator[datetime]:
    """The ticks of a schedule strictly after an instant, in order, in UTC."""
    from cronsim import CronSim

    latest = after.astimezone(UTC)
    for local in CronSim(entry.cron, after.astimezone(entry.zone)):
        tick = local.astimezone(UTC)
        if tick > latest:
            latest = tick
            yield tick


def next_tick(entry: Entry, after: datetime) -> datetime:
    """The first tick of a schedule strictly after an instant, in UTC."""
    return next(ticks_after(entry, after))


def due_ticks(entry: Entry, after: datetime, now: datetime) -> list[datetime]:
    """Ticks in (after, now], oldest first, at most `COUNT_LIMIT` + 1 of them."""
    due: list[datetime] = []
    for tick in ticks_after(entry, after):
        if tick > now or len(due) > COUNT_LIMIT:
            break
        due.append(tick)
    return due


def record_new(store: Path, name: str, tick: Tick) -> bool:
    """Records a tick that nobody has recorded; False if somebody has."""
    content = json.dumps(asdict(tick), sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    return publish_new(_path(store, name, tick), content.encode())


def record_outcome(store: Path, name: str, tick: Tick) -> None:
    """Replaces a claimed tick by what came of it. Only the claim's holder does this."""
    publish_json(_path(store, name, tick), asdict(tick))


def newest_first(store: Path, name: str) -> Iterator[Tick]:
    """Records of a schedule, newest first; each is read when it is asked for."""
    folder = folder_of(store, name) / "ticks"
    for path in sorted(folder.glob("[0-9]*.json"), reverse=True):
        yield Tick(**read_json(path))  # type: ignore[arg-type]


def stamp(instant: datetime) -> str:
    """An instant as records hold it: ISO 8601 in UTC, whole seconds."""
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def _path(store: Path, name: str, tick: Tick) -> Path:
    instant = datetime.fromisoformat(tick.tick).astimezone(UTC)
    return folder_of(store, name) / "ticks" / f"{instant.strftime(_STAMP)}.json"
