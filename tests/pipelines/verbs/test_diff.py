"""`diff` compares two runs."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Headwater


def test_the_setting_that_differs_is_told(headwater: Headwater) -> None:
    assert "settings\n  clean.min_chars: null -> 200\n" in headwater("diff", "amber-1", "birch-2")


def test_where_a_run_took_place_is_no_difference(headwater: Headwater, store: Path) -> None:
    config = store / "runs" / "amber-1" / "config.yaml"
    assert "grace_s: 60.0" in config.read_text()
    config.write_text(config.read_text().replace("grace_s: 60.0", "grace_s: 5.0"))
    record = json.loads(headwater("diff", "amber-1", "birch-2", "--json"))
    assert [row["name"] for row in record["config"]] == ["clean.min_chars"]


def test_each_step_has_the_same_key_or_a_reason(headwater: Headwater) -> None:
    steps = {row["step"]: row for row in json.loads(headwater("diff", "amber-1", "birch-2", "--json"))["steps"]}
    assert (steps["extract"]["same"], steps["extract"]["reason"]) == (True, "")
    assert (steps["clean"]["same"], steps["clean"]["reason"]) == (False, "config min_chars null -> 200")
    assert steps["dedup"]["reason"] == "input clean"
    assert steps["clean"]["states"] == ["done", "done"]
    assert steps["extract"]["states"] == ["done", "cached"]
    assert steps["clean"]["seconds"] == [1.0, 2.0]


def test_metrics_stand_side_by_side(headwater: Headwater) -> None:
    record = json.loads(headwater("diff", "amber-1", "birch-2", "--json"))
    assert {"name": "evaluate/size", "old": 8.0, "new": 5.0} in record["metrics"]
    assert "(-3)" in next(
        line for line in headwater("diff", "amber-1", "birch-2").splitlines() if "evaluate/size" in line
    )


def test_a_run_compared_with_itself_differs_in_nothing(headwater: Headwater) -> None:
    out = headwater("diff", "amber-1", "amber-1")
    assert "settings\n  the same\n" in out
    assert "metrics that differ\n  none\n" in out
    assert out.count("same key") == 19


def test_an_unknown_run_is_refused_with_the_newest_ones(headwater: Headwater) -> None:
    assert "the newest ones are birch-2, amber-1" in headwater("diff", "amber-1", "cedar-3", code=2)


def test_a_plan_of_another_version_is_refused_by_name(headwater: Headwater, store: Path) -> None:
    plan = store / "runs" / "amber-1" / "plan.json"
    plan.write_text(plan.read_text().replace('"schema": 2', '"schema": 1'))
    assert "the plan of run amber-1 is of another version" in headwater("diff", "amber-1", "birch-2", code=2)
