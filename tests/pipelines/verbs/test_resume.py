"""`resume`, `retry`, `cancel` and `attach` on runs that are over."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from pipelines.engine.events import DRIVER_LOCK, append, fold, latest_session, read_events
from pipelines.engine.lock import try_lock
from pipelines.runs import all_runs

from .conftest import Headwater

HERE = ("cluster=inprocess", "tracking=off")


def interrupt(store: Path, run: str) -> Path:
    """Makes a run look as if its driver had been killed before it wrote a word more."""
    folder = store / "runs" / run
    append(folder, "run_started", session=2)
    for artifact in store.glob("artifacts/evaluate/*/*/"):
        (artifact / "scores.json").write_text("{}")
    return folder


def test_resume_goes_on_in_the_same_run_with_its_own_settings(headwater: Headwater, store: Path) -> None:
    folder = interrupt(store, "birch-2")
    assert fold(folder).state == "interrupted"
    said = headwater("resume", "birch-2", *HERE)
    assert "all 19 steps are cached: nothing runs." in said
    assert fold(folder).state == "done"
    assert latest_session(read_events(folder)) == 3
    assert len(all_runs(store)) == 2
    assert (folder / "plan.1.json").is_file()


def test_resume_refuses_to_change_what_the_run_computes(headwater: Headwater) -> None:
    said = headwater("resume", "birch-2", "clean.min_chars=999", code=2)
    assert "Run birch-2 is resumed with its own settings." in said
    assert "headwater retry birch-2 clean.min_chars=999" in said


def test_resume_refuses_a_run_that_has_a_driver(headwater: Headwater, store: Path) -> None:
    with try_lock(store / "runs" / "birch-2" / DRIVER_LOCK):
        assert "Run birch-2 is being driven." in headwater("resume", "birch-2", *HERE, code=4)


def test_retry_makes_a_new_run_of_the_old_settings(headwater: Headwater, store: Path) -> None:
    said = headwater("retry", "birch-2", *HERE, "--json")
    new = json.loads(said.splitlines()[0])["run"]
    folder = store / "runs" / new
    assert yaml.safe_load((folder / "config.yaml").read_text())["clean"]["min_chars"] == 200
    assert "clean.min_chars=200" in json.loads((folder / "run.json").read_text())["overrides"]
    assert fold(folder).state == "done"


def test_retry_takes_changes_and_selectors(headwater: Headwater, store: Path) -> None:
    words = ("clean.min_chars=111", *HERE, "--until", "extract", "--json")
    said = headwater("retry", "birch-2", *words)
    new = json.loads(said.splitlines()[0])["run"]
    assert yaml.safe_load((store / "runs" / new / "config.yaml").read_text())["clean"]["min_chars"] == 111
    steps = fold(store / "runs" / new).steps
    assert steps["extract"].state == "cached"
    assert "clean" not in steps


def test_a_preset_cannot_be_put_over_settings_that_are_written_down(headwater: Headwater) -> None:
    assert "preset picks values for many settings at once" in headwater("retry", "birch-2", "preset=small", code=2)


def test_a_run_keeps_its_settings_when_the_store_is_moved(headwater: Headwater, store: Path, tmp_path: Path) -> None:
    interrupt(store, "birch-2")
    moved = store.rename(tmp_path / "moved")
    moved.rename(store)  # the fixture's verbs look here; the run wrote down another place
    config = store / "runs" / "birch-2" / "config.yaml"
    config.write_text(config.read_text().replace(str(store), "/nowhere"))
    headwater("resume", "birch-2", *HERE)
    assert fold(store / "runs" / "birch-2").state == "done"


def test_attach_tells_how_a_run_ended(headwater: Headwater, store: Path) -> None:
    interrupt(store, "birch-2")
    headwater("resume", "birch-2", *HERE)
    assert "run birch-2 done after" in headwater("attach", "birch-2")


def test_cancel_of_a_run_that_is_over_ends_nothing(headwater: Headwater) -> None:
    assert headwater("cancel", "birch-2") == "run birch-2: nothing was running\n"


def test_cancel_of_a_step_that_is_not_there_lists_the_steps(headwater: Headwater) -> None:
    assert "run birch-2 has no step nothing" in headwater("cancel", "birch-2", "nothing", code=2)


def test_a_run_with_damaged_settings_is_refused(headwater: Headwater, store: Path) -> None:
    (store / "runs" / "birch-2" / "config.yaml").write_text("{")
    assert "The settings of run birch-2 cannot be read." in headwater("resume", "birch-2", code=2)
