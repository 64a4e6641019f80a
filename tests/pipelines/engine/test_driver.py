"""The driver runs what is missing, keeps what is done, and leaves nothing behind that a next run could not use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_steps as toy
from engine_help import plan_of, run_recipe, states
from toy_steps import ToyConfig

from components.errors import MachineError
from pipelines.engine.events import DRIVER_LOCK, fold, read_events, step_folder
from pipelines.engine.lock import try_lock
from pipelines.engine.step import Recipe, StepFunction
from pipelines.engine.store import Store

RUN = """
import sys, threading
from pathlib import Path
import toy_steps as toy
from engine_help import run_recipe
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
store, run, step, text, count = sys.argv[1:]
recipe = Recipe("toy")
recipe.step(getattr(toy, step), toy.ToyConfig(text=text, count=int(count)))
store = Store(store)
status = run_recipe(recipe, store, run_folder=store.run_folder(run))
sys.exit(status.exit_code)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def single(fn: StepFunction, **config: object) -> Recipe:
    recipe = Recipe("toy")
    recipe.step(fn, ToyConfig(**config))  # type: ignore[arg-type]
    return recipe


def start(store: Store, run: str, step: str, text: str = "a", count: int = 3) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, store.root.url, run, step, text, str(count)])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def text_of(store: Store, recipe: Recipe, step: str) -> str:
    artifact = plan_of(recipe, store)[step].artifact
    assert artifact is not None
    return (artifact / "part" / "text.txt").read_text()


def test_a_graph_runs_in_order_and_inputs_arrive(store: Store):
    recipe = Recipe("toy")
    left = recipe.step(toy.source, ToyConfig(text="l"), name="left")
    right = recipe.step(toy.source, ToyConfig(text="r"), name="right")
    recipe.step(toy.join, ToyConfig(text="-"), left=left, right=right)
    status = run_recipe(recipe, store)
    assert (status.state, status.exit_code) == ("done", 0)
    assert states(status) == {"left": "done", "right": "done", "join": "done"}
    assert status.steps["join"].metrics == {"parts": 2.0}
    assert text_of(store, recipe, "join") == "lll-rrr"


def test_a_second_run_finds_everything_cached(store: Store):
    first = run_recipe(single(toy.source), store)
    second = run_recipe(single(toy.source), store)
    assert states(second) == {"source": "cached"}
    assert second.steps["source"].producer_run == first.run_id
    assert second.steps["source"].metrics == first.steps["source"].metrics


def test_what_a_step_prints_goes_to_its_log(store: Store, capfd: pytest.CaptureFixture[str]):
    status = run_recipe(single(toy.source), store)
    log = step_folder(store.run_folder(status.run_id), "source") / "log.txt"
    assert "hello from the source" in log.read_text()
    assert "hello" not in capfd.readouterr().out


def test_a_failing_step_keeps_what_is_done_and_skips_what_follows(store: Store):
    recipe = Recipe("toy")
    source = recipe.step(toy.source, ToyConfig())
    bad = recipe.step(toy.bad_data, ToyConfig(), left=source)
    recipe.step(toy.join, ToyConfig(), left=bad)
    status = run_recipe(recipe, store)
    assert (status.state, status.exit_code) == ("failed", 1)
    assert states(status) == {"source": "done", "bad_data": "failed", "join": "skipped"}
    assert status.error is not None
    assert (status.error.what, status.error.where, status.error.fix) == (
        "The data is bad.",
        "row 7",
        "bring better data",
    )
    assert plan_of(recipe, store)["source"].state == "cached"
    assert plan_of(recipe, store)["bad_data"].state == "runs"


def test_after_a_failure_what_runs_is_finished_and_nothing_new_is_started(store: Store):
    recipe = Recipe("toy")
    recipe.step(toy.bad_data, ToyConfig())
    recipe.step(toy.join, ToyConfig(), left=recipe.step(toy.source, ToyConfig()))
    recipe.step(toy.source, ToyConfig(), name="other")
    status = run_recipe(recipe, store)
    assert states(status) == {"bad_data": "failed", "source": "done", "other": "done", "join": "skipped"}


def test_the_next_run_continues_after_a_failure(store: Store):
    def recipe(second: StepFunction) -> Recipe:
        made = Recipe("toy")
        made.step(second, ToyConfig(), name="second", left=made.step(toy.source, ToyConfig()))
        return made

    run_recipe(recipe(toy.bad_data), store)
    assert states(run_recipe(recipe(toy.join), store)) == {"source": "cached", "second": "done"}


def test_an_unexpected_exception_becomes_a_sentence_and_its_traceback_is_in_the_log(store: Store):
    status = run_recipe(single(toy.defect), store)
    assert status.error is not None
    assert status.error.what == "Step defect failed with ZeroDivisionError: a bug of ours."
    assert "raise ZeroDivisionError" in Path(status.error.where).read_text()
    assert status.exit_code == 1


def test_a_full_disk_is_told_as_such(store: Store):
    status = run_recipe(single(toy.full_disk), store)
    assert status.error is not None
    assert (status.error.what, status.exit_code) == ("The disk is full.", 4)


def test_a_step_that_returns_no_metrics_is_told_to(store: Store):
    status = run_recipe(single(toy.no_metrics), store)
    assert status.error is not None
    assert status.error.what == "Step no_metrics returned a NoneType."


def test_a_failed_attempt_leaves_no_output(store: Store):
    run_recipe(single(toy.defect), store)
    key = plan_of(single(toy.defect), store)["defect"].key
    place = store.root.path / "artifacts" / "defect" / key[:16]  # type: ignore[union-attr]
    assert [path.name for path in place.iterdir() if path.is_dir()] == []
    assert json.loads((place / "000001.json").read_text())["kind"] == "released"


def test_a_step_leaves_environment_and_folder_of_the_process_as_they_were(store: Store):
    before = dict(os.environ), Path.cwd()
    run_recipe(single(toy.untidy), store)
    assert (dict(os.environ), Path.cwd()) == before


def test_stopping_saves_and_the_next_run_continues(store: Store, tmp_path: Path):
    stop = threading.Event()
    recipe = single(toy.counting, count=500)
    folder = store.run_folder("stopped")
    saved = store.scratch("counting", plan_of(recipe, store)["counting"].key) / "count"
    watcher = threading.Thread(target=lambda: (wait_until(saved.exists), stop.set()))
    watcher.start()
    status = run_recipe(recipe, store, stop=stop, run_folder=folder)
    watcher.join()
    assert (status.state, status.exit_code, states(status)) == ("stopped", 3, {"counting": "stopped"})
    reached = int(saved.read_text())
    assert 0 < reached < 500
    saved.write_text("499")
    again = run_recipe(recipe, store)
    assert again.steps["counting"].metrics == {"started_at": 499.0, "counted": 500.0}


def test_sigterm_asks_for_a_stop_and_the_previous_handler_comes_back(store: Store):
    before = signal.getsignal(signal.SIGTERM)
    recipe = single(toy.counting, count=500)
    saved = store.scratch("counting", plan_of(recipe, store)["counting"].key) / "count"
    killer = threading.Thread(target=lambda: (wait_until(saved.exists), os.kill(os.getpid(), signal.SIGTERM)))
    killer.start()
    status = run_recipe(recipe, store)
    killer.join()
    assert status.state == "stopped"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_run_executed_again_in_its_folder_goes_on(store: Store):
    stop = threading.Event()
    stop.set()
    folder = store.run_folder("twice")
    recipe = single(toy.counting)
    assert run_recipe(recipe, store, stop=stop, run_folder=folder).state == "stopped"
    status = run_recipe(recipe, store, run_folder=folder)
    assert (status.state, states(status)) == ("done", {"counting": "done"})
    assert {event["session"] for event in read_events(folder)} == {1, 2}


def test_a_killed_driver_is_seen_and_the_next_run_continues_from_scratch(store: Store):
    recipe = single(toy.counting, count=100)
    saved = store.scratch("counting", plan_of(recipe, store)["counting"].key) / "count"
    driver = start(store, "killed", "counting", count=100)
    wait_until(lambda: saved.exists() and saved.read_text() >= "1")
    driver.kill()
    driver.wait()
    assert fold(store.run_folder("killed")).state == "interrupted"
    assert plan_of(recipe, store)["counting"].reason == "never ran, continues from its scratch"
    status = run_recipe(recipe, store)
    assert status.steps["counting"].metrics["started_at"] >= 1


def test_an_input_that_is_deleted_during_the_run_is_named(store: Store):
    recipe = Recipe("toy")
    source = recipe.step(toy.source, ToyConfig())
    recipe.step(toy.after, ToyConfig(), left=source, right=recipe.step(toy.vandal, ToyConfig(), left=source))
    status = run_recipe(recipe, store)
    assert states(status) == {"source": "done", "vandal": "done", "after": "failed"}
    assert status.error is not None
    assert (status.error.what, status.error.fix) == ("The artifact of source is gone.", "run again to rebuild it")
    assert plan_of(recipe, store)["source"].state == "runs"


def test_two_runs_of_one_key_build_it_once_and_share_it(store: Store, tmp_path: Path):
    gate = tmp_path / "gate"
    runs = [start(store, name, "waits_for", text=str(gate)) for name in ("one", "two")]
    wait_until(lambda: Path(f"{gate}.begun").exists())
    folders = [store.run_folder(name) for name in ("one", "two")]
    wait_until(lambda: any(event["kind"] == "busy" for folder in folders for event in read_events(folder)))
    gate.touch()
    assert [run.wait(60) for run in runs] == [0, 0]
    kinds = [event["kind"] for folder in folders for event in read_events(folder) if event["step"]]
    assert sorted(kinds) == ["busy", "cached", "done", "started"]


def test_a_run_has_one_driver(store: Store):
    folder = store.run_folder("driven")
    with try_lock(folder / DRIVER_LOCK), pytest.raises(MachineError, match="already being driven"):
        run_recipe(single(toy.source), store, run_folder=folder)


def test_a_cached_run_writes_three_events_whatever_its_size(store: Store):
    recipe = Recipe("toy")
    for number in range(20):
        recipe.step(toy.source, ToyConfig(), name=f"step_{number}")
    run_recipe(recipe, store)
    status = run_recipe(recipe, store)
    assert sorted(str(event["kind"]) for event in read_events(store.run_folder(status.run_id))) == [
        "cached",
        "run_ended",
        "run_started",
    ]


def test_the_manifest_says_what_was_made_of_what(store: Store):
    recipe = Recipe("toy")
    recipe.step(toy.join, ToyConfig(token="hunter2"), left=recipe.step(toy.source, ToyConfig()))
    status = run_recipe(recipe, store)
    plan = plan_of(recipe, store)
    text = (store.root.path / "artifacts/join" / plan["join"].key[:16] / "000001.json").read_text()  # type: ignore[union-attr]
    manifest = json.loads(text)
    made = plan["source"].made
    assert made is not None
    assert manifest["inputs"] == {"left": {"step": "source", "key": plan["source"].key, "content": made.content}}
    assert manifest["run"] == status.run_id
    assert manifest["config"]["workers"] == 1
    assert manifest["code_files"].keys() >= {"toy_steps.py", "components/errors.py"}
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert "hunter2" not in text
