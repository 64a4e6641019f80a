"""Serving schedules over an injected clock: nothing here waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import MachineError
from components.publish import publish_json, read_json
from pipelines.engine.events import DRIVER_LOCK, append
from pipelines.engine.lock import try_lock
from pipelines.schedule.entry import Entry, add, remove
from pipelines.schedule.serve import Launched, Server, serve
from pipelines.schedule.ticks import Tick, due_ticks, newest_first, record_new

START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only when somebody sleeps; `jumps` change it while they do."""

    def __init__(self, now: datetime, end: datetime) -> None:
        self.time = now
        self.end = end
        self.events: list[tuple[datetime, Callable[[], None]]] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        self.time += timedelta(seconds=seconds)
        while self.events and self.time >= self.events[0][0]:
            self.events.pop(0)[1]()
        if self.time >= self.end:
            stop.set()

    def at(self, when: datetime, what: Callable[[], None]) -> None:
        self.events.append((when, what))


class FakeRun:
    """Goes until an instant of the fake clock."""

    def __init__(self, clock: FakeClock, lasts: timedelta) -> None:
        self.clock = clock
        self.end = clock.now() + lasts

    def poll(self) -> int | None:
        return None if self.clock.now() < self.end else 0


class Launcher:
    """Starts fake runs and remembers when."""

    def __init__(self, clock: FakeClock, lasts: timedelta = timedelta(minutes=1)) -> None:
        self.clock = clock
        self.lasts = lasts
        self.started: list[datetime] = []

    def __call__(self, entry: Entry) -> Launched:
        self.started.append(self.clock.now())
        return Launched(f"run-{len(self.started)}", FakeRun(self.clock, self.lasts))


def served(
    store: Path, until: datetime, clock: FakeClock, launch: Launcher | None = None
) -> tuple[Launcher, list[str]]:
    launcher = launch or Launcher(clock)
    said: list[str] = []
    clock.end = until
    serve(store, clock, launcher, threading.Event(), said.append)
    return launcher, said


def records(store: Path, name: str = "job") -> list[tuple[str, str]]:
    return [(tick.tick[5:16], tick.state) for tick in reversed(list(newest_first(store, name)))]


def clock_at(now: datetime = START) -> FakeClock:
    return FakeClock(now, now)


def test_every_tick_starts_one_run_and_is_recorded(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 3 * * *", overrides=("preset=small",)), START)
    launcher, said = served(tmp_path, START + timedelta(days=3), clock)
    assert launcher.started == [datetime(2025, 3, day, 3, tzinfo=UTC) for day in (2, 3, 4)]
    assert records(tmp_path) == [("03-02T03:00", "started"), ("03-03T03:00", "started"), ("03-04T03:00", "started")]
    assert len(said) == 3


def test_ticks_follow_the_zone_over_daylight_saving(tmp_path: Path) -> None:
    start = datetime(2025, 3, 29, 0, tzinfo=UTC)
    clock = clock_at(start)
    add(tmp_path, Entry("job", "30 2 * * *", "Europe/Berlin"), start)
    launcher, _ = served(tmp_path, start + timedelta(days=2, hours=1), clock)
    hours = [f"{when:%d %H:%M}" for when in launcher.started]
    assert hours == ["29 01:30", "30 01:00", "31 00:30"]


def test_a_tick_is_skipped_while_the_last_run_still_goes(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    served(tmp_path, START + timedelta(minutes=245), clock, Launcher(clock, timedelta(minutes=150)))
    assert [state for _, state in records(tmp_path)] == ["started", "skipped", "skipped", "started"]
    assert "run-1 still goes" in next(tick.reason for tick in newest_first(tmp_path, "job") if tick.state == "skipped")


def held(store: Path, run_id: str) -> AbstractContextManager[bool]:
    append(store / "runs" / run_id, "run_started", session=1)
    return try_lock(store / "runs" / run_id / DRIVER_LOCK)


def test_a_restarted_server_knows_from_the_run_record_that_the_run_still_goes(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    record_new(tmp_path, "job", Tick("2025-03-01T13:00:00+00:00", "started", run="amber-1"))
    clock.time = START + timedelta(minutes=119, seconds=50)
    with held(tmp_path, "amber-1"):
        launcher, _ = served(tmp_path, START + timedelta(minutes=121), clock)
    assert launcher.started == []
    assert records(tmp_path)[-1] == ("03-01T14:00", "skipped")


def test_a_run_whose_driver_was_killed_does_not_block_the_next_tick(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    record_new(tmp_path, "job", Tick("2025-03-01T13:00:00+00:00", "started", run="amber-1"))
    with held(tmp_path, "amber-1"):
        pass
    clock.time = START + timedelta(minutes=119, seconds=50)
    launcher, _ = served(tmp_path, START + timedelta(minutes=121), clock)
    assert len(launcher.started) == 1


def test_ticks_missed_while_no_server_ran_are_recorded_once_and_not_run(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    clock.time = START + timedelta(hours=5, minutes=30)
    launcher, said = served(tmp_path, clock.time + timedelta(minutes=10), clock)
    assert launcher.started == []
    (missed,) = newest_first(tmp_path, "job")
    assert (missed.state, missed.count, missed.until) == ("missed", 5, "2025-03-01T17:00:00+00:00")
    assert "5 ticks missed" in said[0]
    launcher, _ = served(tmp_path, clock.time + timedelta(hours=1), clock)
    assert [state for _, state in records(tmp_path)] == ["missed", "started"]


def test_a_tick_found_a_minute_late_still_runs_and_the_ones_before_are_missed(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    clock.time = START + timedelta(hours=3, minutes=1)
    served(tmp_path, clock.time + timedelta(minutes=5), clock)
    assert records(tmp_path) == [("03-01T13:00", "missed"), ("03-01T15:00", "started")]


def test_a_very_long_absence_leaves_one_record(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "* * * * *"), START)
    clock.time = START + timedelta(days=3650)
    Server(tmp_path, clock, Launcher(clock), print).serve_once()
    (missed,) = newest_first(tmp_path, "job")
    assert (missed.state, missed.count, missed.until) == ("missed", None, clock.time.isoformat())


def test_a_clock_that_jumps_back_fires_no_tick_again(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)

    def jump() -> None:
        clock.time -= timedelta(hours=2)

    clock.at(START + timedelta(hours=2, minutes=30), jump)
    launcher, _ = served(tmp_path, START + timedelta(hours=3, minutes=30), clock)
    assert [tick for tick, _ in records(tmp_path)] == ["03-01T13:00", "03-01T14:00", "03-01T15:00"]
    assert len(launcher.started) == 3


def test_an_edit_takes_effect_from_now_on(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 13 * * *"), START)
    clock.at(START + timedelta(hours=2), lambda: add(tmp_path, Entry("job", "30 13 * * *"), clock.now()) and None)
    served(tmp_path, START + timedelta(days=2), clock)
    assert records(tmp_path) == [("03-01T13:00", "started"), ("03-02T13:30", "started")]


def test_a_removed_schedule_fires_no_more(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    clock.at(START + timedelta(hours=1, minutes=30), lambda: remove(tmp_path, "job"))
    launcher, _ = served(tmp_path, START + timedelta(hours=5), clock)
    assert len(launcher.started) == 1


def test_a_run_that_cannot_start_is_recorded_and_the_server_goes_on(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    add(tmp_path, Entry("other", "0 * * * *"), START)
    launched: list[str] = []

    def launch(entry: Entry) -> Launched:
        launched.append(entry.name)
        if entry.name == "job":
            raise MachineError("no cluster answers at http://head:8265.", fix="ray start --head")
        return Launched("amber-2", FakeRun(clock, timedelta(minutes=1)))

    clock.end = START + timedelta(hours=2, minutes=10)
    serve(tmp_path, clock, launch, threading.Event(), lambda line: None)
    assert launched == ["job", "other"] * 2
    (first, *_) = newest_first(tmp_path, "job")
    assert (first.state, first.run) == ("failed", None)
    assert "no cluster answers" in first.reason
    assert [state for _, state in records(tmp_path, "other")] == ["started", "started"]


def test_a_claim_of_a_server_that_died_is_settled_as_failed(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    record_new(tmp_path, "job", Tick("2025-03-01T13:00:00+00:00", "claimed"))
    clock.time = START + timedelta(minutes=70)
    served(tmp_path, START + timedelta(minutes=125), clock)
    assert records(tmp_path) == [("03-01T13:00", "failed"), ("03-01T14:00", "started")]


def test_a_schedule_that_cannot_be_read_is_named_once_and_the_others_go_on(tmp_path: Path) -> None:
    clock = clock_at()
    add(tmp_path, Entry("job", "0 * * * *"), START)
    add(tmp_path, Entry("broken", "0 * * * *"), START)
    path = tmp_path / "schedules/broken/entry.json"
    publish_json(path, read_json(path) | {"cron": "whenever"})
    _, said = served(tmp_path, START + timedelta(hours=2, minutes=1), clock)
    assert len([line for line in said if "broken/entry.json" in line]) == 1
    assert len(records(tmp_path)) == 2


@settings(max_examples=8, deadline=None)
@given(
    downs=st.lists(st.tuples(st.integers(1, 240), st.integers(1, 600)), min_size=1, max_size=3),
    cron=st.sampled_from(["*/7 * * * *", "0 * * * *", "5,35 * * * *"]),
    zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
)
def test_every_tick_is_answered_exactly_once_whatever_the_server_does(
    tmp_path_factory: pytest.TempPathFactory, downs: list[tuple[int, int]], cron: str, zone: str
) -> None:
    store = tmp_path_factory.mktemp("store")
    start = datetime(2025, 10, 25, 20, 0, tzinfo=UTC)  # the night the clocks go back in Berlin
    clock = clock_at(start)
    entry = add(store, Entry("job", cron, zone), start)
    for up, down in downs:
        served(store, clock.now() + timedelta(minutes=up), clock)
        clock.time += timedelta(minutes=down)
    Server(store, clock, Launcher(clock), print).serve_once()
    answered: list[datetime] = []
    for tick in reversed(list(newest_first(store, "job"))):
        first = datetime.fromisoformat(tick.tick)
        covered = due_ticks(entry, first - timedelta(seconds=1), tick.end)
        assert tick.count in (None, len(covered))
        answered += covered
    assert answered == due_ticks(entry, start, clock.now())


class Ended:
    """A run that is over."""

    def poll(self) -> int | None:
        return 0


def serve_as_process(store: Path, number: int) -> int:
    clock = clock_at()
    launched: list[str] = []

    def launch(entry: Entry) -> Launched:
        launched.append(entry.name)
        return Launched(f"server-{number}-{len(launched)}", Ended())

    clock.end = START + timedelta(days=1)
    serve(store, clock, launch, threading.Event(), lambda line: None)
    return len(launched)


def test_two_servers_start_each_tick_once_between_them(tmp_path: Path) -> None:
    add(tmp_path, Entry("job", "0 * * * *"), START)
    with get_context("spawn").Pool(2) as pool:
        launched = pool.starmap(serve_as_process, [(tmp_path, 1), (tmp_path, 2)])
    started = [tick for tick in newest_first(tmp_path, "job") if tick.state == "started"]
    runs = [tick.run for tick in started]
    assert sum(launched) == len(started) == len(set(runs)) > 0
