"""When a schedule fires: in its own zone, over daylight saving and leap days, once each."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schedule.entry import Entry
from pipelines.schedule.ticks import COUNT_LIMIT, Tick, due_ticks, newest_first, next_tick, record_new, ticks_after

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns"]
CRONS = ["0 3 * * *", "30 2 * * *", "*/15 * * * *", "0 * * * *", "15 1,13 * * 1-5", "0 0 29 2 *", "0 5 1 * *"]
instants = st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1)).map(
    lambda naive: naive.replace(microsecond=0, tzinfo=UTC)
)


def entry(cron: str, tz: str = "UTC") -> Entry:
    return Entry("test", cron, tz)


def local(cron: str, tz: str, after: datetime, count: int) -> list[str]:
    ticks = islice(ticks_after(entry(cron, tz), after), count)
    return [tick.astimezone(zoneinfo.ZoneInfo(tz)).strftime("%m-%d %H:%M %Z") for tick in ticks]


def test_a_time_the_clocks_jump_over_runs_after_the_gap() -> None:
    after = datetime(2025, 3, 29, 12, tzinfo=UTC)
    assert local("30 2 * * *", "Europe/Berlin", after, 2) == ["03-30 03:00 CEST", "03-31 02:30 CEST"]


def test_a_time_that_comes_twice_runs_once() -> None:
    after = datetime(2025, 10, 25, 12, tzinfo=UTC)
    assert local("30 2 * * *", "Europe/Berlin", after, 2) == ["10-26 02:30 CEST", "10-27 02:30 CET"]


def test_the_second_of_two_equal_times_is_no_tick_even_for_a_server_that_starts_then() -> None:
    second = datetime(2025, 10, 26, 1, 10, tzinfo=UTC)  # 02:10 CET, when 02:30 CEST is past
    assert local("30 2 * * *", "Europe/Berlin", second, 1) == ["10-27 02:30 CET"]


def test_an_hourly_job_runs_every_elapsed_hour_of_a_long_night() -> None:
    after = datetime(2025, 10, 25, 23, 30, tzinfo=UTC)
    ticks = list(islice(ticks_after(entry("0 * * * *", "Europe/Berlin"), after), 4))
    assert [later - earlier for earlier, later in pairwise(ticks)] == [timedelta(hours=1)] * 3


def test_a_leap_day_comes_every_fourth_year() -> None:
    ticks = islice(ticks_after(entry("0 0 29 2 *"), datetime(2024, 2, 29, tzinfo=UTC)), 2)
    assert [tick.year for tick in ticks] == [2028, 2032]


@settings(max_examples=60, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(CRONS))
def test_the_next_tick_is_later_and_nothing_lies_between(after: datetime, tz: str, cron: str) -> None:
    following = next_tick(entry(cron, tz), after)
    assert following > after
    middle = after + (following - after) / 2
    assert next_tick(entry(cron, tz), middle.replace(microsecond=0)) == following


@settings(max_examples=60, deadline=None)
@given(instants, st.sampled_from(ZONES))
def test_a_daily_job_runs_exactly_once_on_every_local_day(after: datetime, tz: str) -> None:
    ticks = list(islice(ticks_after(entry("30 2 * * *", tz), after), 400))
    days = [tick.astimezone(zoneinfo.ZoneInfo(tz)).date() for tick in ticks]
    assert days == [days[0] + timedelta(days=number) for number in range(400)]


@settings(max_examples=60, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(CRONS[:5]), st.lists(st.integers(1, 86400), max_size=12))
def test_looking_often_or_seldom_finds_the_same_ticks(after: datetime, tz: str, cron: str, steps: list[int]) -> None:
    now, piecewise, cursor = after, [], after
    for step in steps:
        now += timedelta(seconds=step)
        found = due_ticks(entry(cron, tz), cursor, now)
        piecewise += found
        cursor = found[-1] if found else cursor
    assert piecewise == due_ticks(entry(cron, tz), after, now)


def test_a_very_long_absence_is_not_counted_tick_by_tick() -> None:
    due = due_ticks(entry("* * * * *"), datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC))
    assert len(due) == COUNT_LIMIT + 1


def claim(store: Path, writer: int) -> list[str]:
    ticks = [Tick(f"2025-01-{day:02d}T03:00:00+00:00", "claimed", run=f"writer-{writer}") for day in range(1, 29)]
    return [tick.tick for tick in ticks if record_new(store, "race", tick)]


def test_of_four_processes_exactly_one_gets_each_tick(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        won = pool.starmap(claim, [(tmp_path, writer) for writer in range(4)])
    everything = sorted(tick for ticks in won for tick in ticks)
    assert everything == sorted(tick.tick for tick in newest_first(tmp_path, "race"))
    assert len(everything) == len(set(everything)) == 28
