"""The scheduler: starts a run at each tick of each schedule, and writes down what became of every tick.

One pass over the schedules is a function of the store and the clock (`serve_once`); `serve` repeats it and sleeps in
between. Several servers may run on one store: the exclusive record of a tick decides who starts it. There is no
catch-up: ticks that passed while nobody served are recorded as missed, once, and not run. A tick whose predecessor
still goes is skipped and says so. A run that cannot be started is recorded as failed; the server goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeAlias

from components.errors import HeadwaterError
from pipelines.engine.events import fold
from pipelines.engine.lock import try_lock
from pipelines.schedule import entry as entries
from pipelines.schedule.entry import Entry
from pipelines.schedule.ticks import (
    COUNT_LIMIT,
    Tick,
    due_ticks,
    newest_first,
    next_tick,
    record_new,
    record_outcome,
    stamp,
)

START_WITHIN = timedelta(minutes=5)
"""A tick found later than this is missed: the server was not there."""

LOOK_EVERY_S = 60.0
"""Longest sleep: entries may be added or edited at any time."""


class Clock(Protocol):
    """Time, as the scheduler sees it."""

    def now(self) -> datetime:
        """The current instant, with its zone."""

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Waits that long, or until `stop` is set."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """See `Clock.sleep`."""
        stop.wait(seconds)


class Handle(Protocol):
    """Something that was started; `subprocess.Popen` is one, a job of a cluster is another."""

    def poll(self) -> int | None:
        """Its exit code, or None while it goes. A child process that ended is forgotten by the system here."""


@dataclass(frozen=True)
class Launched:
    """A run that was started.

    Attributes:
        run_id: Name of the run, as its folder under `<store>/runs/`.
        handle: What goes on until the run ends.
    """

    run_id: str
    handle: Handle


Launch: TypeAlias = Callable[[Entry], Launched]
Say: TypeAlias = Callable[[str], None]


def serve(store: Path, clock: Clock, launch: Launch, stop: threading.Event, say: Say) -> None:
    """Serves the schedules of a store until it is told to stop.

    Args:
        store: Root folder of the store.
        clock: Where it reads the time and waits.
        launch: Starts a run of an entry and returns when the run's id is known. A `HeadwaterError` or `OSError` from
            it is recorded as a failed tick.
        stop: Set by a signal handler to end.
        say: Takes one line for the user about every tick and every schedule that cannot be read.
    """
    server = Server(store, clock, launch, say)
    while not stop.is_set():
        upcoming = server.serve_once()
        seconds = LOOK_EVERY_S if upcoming is None else (upcoming - clock.now()).total_seconds()
        clock.sleep(min(max(seconds, 0.0), LOOK_EVERY_S), stop)


class Server:
    """One scheduler process; the arguments are those of `serve`."""

    def __init__(self, store: Path, clock: Clock, launch: Launch, say: Say) -> None:
        self._store = store
        self._clock = clock
        self._launch = launch
        self._say = say
        self._handles: dict[str, Handle] = {}
        self._refused: dict[str, str] = {}

    def serve_once(self) -> datetime | None:
        """Handles every tick that is due.

        Returns:
            The next instant at which a tick is due; None if there is no schedule.
        """
        self._handles = {run: handle for run, handle in self._handles.items() if handle.poll() is None}
        loaded = [self._load(name) for name in entries.names(self._store)]
        return min((self._serve_entry(entry) for entry in loaded if entry is not None), default=None)

    def _load(self, name: str) -> Entry | None:
        try:
            entry = entries.load(self._store, name)
        except (HeadwaterError, FileNotFoundError) as error:
            if self._refused.get(name) != str(error):
                self._say(str(error))
            self._refused[name] = str(error)
            return None
        self._refused.pop(name, None)
        return entry

    def _serve_entry(self, entry: Entry) -> datetime:
        lease = entries.folder_of(self._store, entry.name) / "serving.lock"
        with try_lock(lease) as mine:
            while mine and (due := due_ticks(entry, self._answered_until(entry), self._clock.now())):
                self._answer(entry, due)
            return next_tick(entry, self._clock.now())

    def _answered_until(self, entry: Entry) -> datetime:
        newest = next(newest_first(self._store, entry.name), None)
        return entry.effective if newest is None else max(entry.effective, newest.end)

    def _answer(self, entry: Entry, due: list[datetime]) -> None:
        now = self._clock.now()
        fires = len(due) <= COUNT_LIMIT and now - due[-1] <= START_WITHIN
        missed = due[:-1] if fires else due
        if missed:
            self._record_missed(entry, missed, now)
        else:
            self._fire(entry, due[-1])

    def _record_missed(self, entry: Entry, missed: list[datetime], now: datetime) -> None:
        counted = len(missed) <= COUNT_LIMIT
        until = missed[-1] if counted else now
        reason = "no server ran"
        tick = Tick(
            stamp(missed[0]), "missed", None, reason, stamp(until), len(missed) if counted else None, stamp(now)
        )
        if record_new(self._store, entry.name, tick):
            amount = f"{len(missed)}" if counted else f"more than {COUNT_LIMIT}"
            self._say(f"{entry.name}: {amount} ticks missed from {tick.tick} to {tick.until}; none is made up for")

    def _fire(self, entry: Entry, due: datetime) -> None:
        claim = Tick(stamp(due), "claimed", recorded=stamp(self._clock.now()))
        busy = self._busy_with(entry)
        if busy is not None:
            outcome = replace(claim, state="skipped", reason=f"run {busy} still goes")
            first = record_new(self._store, entry.name, outcome)
        else:
            first = record_new(self._store, entry.name, claim)
            outcome = self._start(entry, claim) if first else claim
        if first:
            self._say(f"{entry.name}: tick {outcome.tick} {outcome.state} {outcome.run or outcome.reason}")

    def _start(self, entry: Entry, claim: Tick) -> Tick:
        try:
            launched = self._launch(entry)
        except (HeadwaterError, OSError) as error:
            outcome = replace(claim, state="failed", reason=str(error))
        else:
            self._handles[launched.run_id] = launched.handle
            outcome = replace(claim, state="started", run=launched.run_id)
        record_outcome(self._store, entry.name, outcome)
        return outcome

    def _busy_with(self, entry: Entry) -> str | None:
        """The run of this schedule that still goes, if any; only the newest one that was started can."""
        for tick in newest_first(self._store, entry.name):
            if tick.state == "claimed":
                self._settle(entry, tick)
            if tick.state == "started" and tick.run is not None:
                return tick.run if self._goes(tick.run) else None
        return None

    def _settle(self, entry: Entry, claim: Tick) -> None:
        """Says what is known of a claim whose server died: this server holds the lease now, so nobody works on it."""
        reason = "the server died while it started the run; headwater status lists the runs there are"
        record_outcome(self._store, entry.name, replace(claim, state="failed", reason=reason))

    def _goes(self, run_id: str) -> bool:
        handle = self._handles.get(run_id)
        if handle is not None and handle.poll() is None:
            return True
        folder = self._store / "runs" / run_id
        return folder.is_dir() and fold(folder).state == "running"
