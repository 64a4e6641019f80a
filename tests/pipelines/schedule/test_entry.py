"""Schedules are files that are checked when they are added and when they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.errors import ConfigError
from components.publish import publish_json, read_json
from pipelines.schedule.entry import Entry, add, load, names, remove

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2025, 3, 2, 8, 30, tzinfo=UTC)


def test_an_added_schedule_is_read_back_equal(tmp_path: Path) -> None:
    entry = Entry("weekly", "0 3 * * 1", "Asia/Shanghai", ("preset=small", "sft.steps=3"), "submit", "http://head:8265")
    stored = add(tmp_path, entry, NOW)
    assert load(tmp_path, "weekly") == stored
    assert stored.effective == NOW
    assert stored.overrides == ("preset=small", "sft.steps=3")


def test_adding_again_keeps_the_creation_and_takes_effect_from_now(tmp_path: Path) -> None:
    add(tmp_path, Entry("nightly", "0 3 * * *"), NOW)
    edited = add(tmp_path, Entry("nightly", "0 4 * * *"), LATER)
    assert edited.created == NOW.isoformat()
    assert edited.effective == LATER
    assert load(tmp_path, "nightly").cron == "0 4 * * *"


def test_removing_keeps_the_tick_records(tmp_path: Path) -> None:
    add(tmp_path, Entry("nightly", "0 3 * * *"), NOW)
    record = tmp_path / "schedules/nightly/ticks/20250302T030000Z.json"
    publish_json(record, {"state": "started"})
    remove(tmp_path, "nightly")
    assert names(tmp_path) == []
    assert record.exists()


def test_removing_what_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    add(tmp_path, Entry("nightly", "0 3 * * *"), NOW)
    with pytest.raises(ConfigError, match="did you mean nightly"):
        remove(tmp_path, "nihgtly")


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("0 3 * *", "4 fields, not five"),
        ("0 0 3 * * 1", "6 fields, not five"),
        ("61 3 * * 1", "minute"),
        ("0 25 * * *", "hour"),
        ("0 0 30 2 *", "day-of-month"),
        ("@daily", "1 fields"),
        ("", "0 fields"),
    ],
)
def test_a_cron_text_that_cannot_work_is_refused_with_one_that_does(cron: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Entry("nightly", cron)
    assert says in caught.value.what
    assert "0 3 * * 1" in caught.value.fix


def test_an_unknown_zone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean Asia/Shanghai"):
        Entry("nightly", "0 3 * * *", "asia/shanghay")


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_safe_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="schedule name"):
        Entry(name, "0 3 * * *")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="run, submit"):
        Entry("nightly", "0 3 * * *", mode="email")


@pytest.mark.parametrize(
    "edit", [{"cron": "0 3 * *"}, {"corn": "0 3 * * *"}, {"overrides": "preset=small"}, {"since": "yesterday"}]
)
def test_a_file_edited_into_nonsense_is_refused_by_name(tmp_path: Path, edit: dict[str, object]) -> None:
    add(tmp_path, Entry("nightly", "0 3 * * *"), NOW)
    path = tmp_path / "schedules/nightly/entry.json"
    publish_json(path, read_json(path) | edit)
    with pytest.raises(ConfigError):
        load(tmp_path, "nightly")
