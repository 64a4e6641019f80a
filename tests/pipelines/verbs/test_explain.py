"""`explain` tells all that is known of one step."""

from __future__ import annotations

import json

from .conftest import Headwater


def test_every_reason_has_its_line_with_old_and_new_value(headwater: Headwater) -> None:
    lines = headwater("explain", "clean", "clean.min_chars=300", "clean.max_chars=500").splitlines()
    assert lines[:3] == ["step clean: runs", "  config max_chars: null -> 500", "  config min_chars: 200 -> 300"]


def test_a_changed_input_is_told_with_both_keys(headwater: Headwater) -> None:
    record = json.loads(headwater("explain", "dedup", "clean.min_chars=300", "--json"))
    (reason,) = record["reasons"]
    assert (reason["kind"], reason["name"]) == ("input", "clean")
    assert reason["old"] != reason["new"] == record["inputs"][0]["key"]
    assert record["content_key"] is None


def test_a_cached_step_tells_who_made_it_of_what_and_where_it_is(headwater: Headwater) -> None:
    out = headwater("explain", "dedup")
    assert "step dedup: cached, made by run amber-1 in 1 s" in out
    assert "documents     clean@" in out
    assert "artifacts/dedup/" in out
    assert "runs/birch-2/steps/dedup/log.txt" in out


def test_earlier_artifacts_are_listed_the_newest_first(headwater: Headwater) -> None:
    record = json.loads(headwater("explain", "clean", "--json"))
    assert [(row["run"], row["seconds"]) for row in record["earlier"]] == [("birch-2", 2.0), ("amber-1", 1.0)]


def test_the_time_expected_is_shown_with_core_hours(headwater: Headwater) -> None:
    assert "expected     1.5 s, 0.00042 CPU-h" in headwater("explain", "clean", "--force", "clean")


def test_an_unknown_step_is_refused_with_the_list(headwater: Headwater) -> None:
    assert "the steps are instructions, preferences, site" in headwater("explain", "nothing", code=2)
