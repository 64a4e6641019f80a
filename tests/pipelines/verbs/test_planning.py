"""How a plan is shown: a line a step, selectors, the price, and what programs get."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.cli import make_parser
from pipelines.config import load_settings
from pipelines.engine import events
from pipelines.engine.select import Selection
from pipelines.runs import create_run
from pipelines.verbs.planning import plan_of, selection_of_run

from .conftest import Headwater, change_code


def test_a_cached_recipe_runs_nothing(headwater: Headwater) -> None:
    out = headwater("plan")
    assert "all 19 steps are cached: nothing runs." in out
    assert "from run amber-1" in out


def test_the_closing_line_tells_time_critical_path_and_core_hours(headwater: Headwater) -> None:
    out = headwater("plan", "clean.min_chars=300")
    assert "clean         runs     config min_chars 200 -> 300" in out
    assert "12 of 19 steps run, about 18 s (critical path 16 s), 0.0067 CPU-h. `headwater explain clean`" in out


def test_a_price_is_shown_where_one_is_set(headwater: Headwater) -> None:
    assert ", price 2.40." in headwater("plan", "clean.min_chars=300", "cluster.price_cpu_hour=360")
    assert ", price" not in headwater("plan", "clean.min_chars=300")


def test_steps_of_unknown_time_are_counted(headwater: Headwater, store: Path) -> None:
    for record in (store / "artifacts" / "ppo").glob("*/*.json"):
        record.unlink()
    assert "over 1.5 s (1 of them never ran)" in headwater("plan", "--force", "evaluate")


def test_selectors_leave_steps_out_and_say_so(headwater: Headwater) -> None:
    out = headwater("plan", "clean.min_chars=300", "--until", "dedup")
    assert "tokenizer     left out by --until" in out
    assert "2 of 19 steps run, 10 left out" in out


def test_selectors_may_be_repeated_and_separated_by_commas(headwater: Headwater) -> None:
    steps = json.loads(headwater("plan", "--json", "--force", "site,crawl", "--force", "dedup"))["steps"]
    assert [step["step"] for step in steps if step["reason"] == "forced"] == ["site", "crawl", "dedup"]


def test_a_selection_that_cannot_run_ends_with_code_2_naming_both_steps(headwater: Headwater) -> None:
    said = headwater("plan", "--only", "dedup", "clean.min_chars=300", code=2)
    assert "Step dedup needs the artifact of clean, which --only leaves out" in said
    assert "headwater run --until clean" in said


def test_a_run_goes_on_with_its_own_selectors_and_forces_nothing_twice(store: Path) -> None:
    settings = load_settings([f"store={store}", "preset=micro"])
    _, plan = plan_of(settings, Selection(until=("dedup",), force_downstream=("clean",)))
    folder = create_run(settings.folder, settings, [], plan, "cedar-3")
    events.append(folder, "run_started", session=1)
    events.append(folder, "done", "clean", session=1, attempt=1)
    nothing = make_parser().parse_args(["resume"])
    assert selection_of_run(nothing, folder) == Selection(until=("dedup",), force=("dedup",))
    typed = make_parser().parse_args(["resume", "--only", "clean"])
    assert selection_of_run(typed, folder) == Selection(only=("clean",))


def test_an_unknown_step_is_answered_with_the_nearest(headwater: Headwater) -> None:
    assert "did you mean dedup?" in headwater("plan", "--from", "dedupe", code=2)


def test_programs_get_reasons_times_and_hours(headwater: Headwater) -> None:
    record = json.loads(headwater("plan", "--json", "clean.min_chars=300"))
    clean = next(step for step in record["steps"] if step["step"] == "clean")
    assert clean["reasons"] == [{"kind": "config", "name": "min_chars", "old": 200, "new": 300}]
    assert clean["estimate_s"] == 1.5
    assert (record["estimate_s"], record["critical_s"]) == (18.0, 16.5)


def test_production_refuses_changed_code_with_the_command_that_accepts_it(headwater: Headwater, store: Path) -> None:
    change_code(store, "pretrain")
    assert "changed since, kept (code=warn)" in headwater("plan")
    said = headwater("plan", "code=fail", code=2)
    assert (
        "The code of pretrain changed since the artifact was made (pretrain: components/model/transformer.py)" in said
    )
    assert "headwater accept pretrain" in said


def test_an_accepted_change_is_no_reason_to_refuse(headwater: Headwater, store: Path) -> None:
    change_code(store, "pretrain")
    out = headwater("accept", "pretrain", "--reason", "a comment=1 was moved")
    assert out.startswith("accepted pretrain: ")
    assert "components/model/transformer.py changed since" in out
    assert ": a comment=1 was moved)" in headwater("plan", "code=fail")


def test_accepting_what_differs_in_more_than_code_is_refused(headwater: Headwater) -> None:
    said = headwater("accept", "clean", "clean.min_chars=300", code=2)
    assert "more than code differs: config min_chars: 200 -> 300" in said
