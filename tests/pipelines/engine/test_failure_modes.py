"""What becomes of a run when a step fails, runs out of memory, falls silent, or is not wanted any more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tough_steps as tough
import toy_steps as toy
from engine_help import plan_of, run_recipe, states
from tough_steps import ToughConfig
from toy_steps import ToyConfig

from pipelines.engine.events import RunStatus, fold, read_events
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def two_branches() -> Recipe:
    recipe = Recipe("toy")
    bad = recipe.step(toy.bad_data, ToyConfig())
    recipe.step(toy.join, ToyConfig(), name="below_bad", left=bad)
    good = recipe.step(toy.source, ToyConfig())
    recipe.step(toy.join, ToyConfig(), name="below_good", left=good)
    return recipe


def test_keep_going_runs_all_that_does_not_need_what_failed(store: Store):
    status = run_recipe(two_branches(), store, on_failure="keep-going")
    expected = {"bad_data": "failed", "below_bad": "skipped", "source": "done", "below_good": "done"}
    assert (status.state, states(status)) == ("failed", expected)


def test_finish_running_starts_nothing_new(store: Store):
    status = run_recipe(two_branches(), store)
    assert states(status)["below_good"] == "skipped"


def test_a_step_out_of_memory_is_tried_with_less_and_keeps_its_key(store: Store):
    recipe = Recipe("toy")
    recipe.step(tough.hungry, ToughConfig(fits=2))
    key = plan_of(recipe, store)["hungry"].key
    status = run_recipe(recipe, store, max_retries=0)
    assert (states(status), status.steps["hungry"].metrics) == ({"hungry": "done"}, {"micro": 2.0})
    assert status.steps["hungry"].key == key
    notes = [str(event["note"]) for event in read_events(store.run_folder(status.run_id)) if "note" in event]
    assert [note.partition(" with ")[2] for note in sorted(notes)] == [
        "batch.micro 8 -> 4",
        "batch.micro 4 -> 2",
    ]


def test_a_step_that_can_do_with_no_less_is_given_up_with_its_reason(store: Store):
    recipe = Recipe("toy")
    recipe.step(tough.hungry, ToughConfig(fits=0))
    status = run_recipe(recipe, store, max_retries=0)
    assert (status.state, status.exit_code) == ("failed", 4)
    assert status.error is not None
    assert "it ran out of memory" in status.error.what


def test_code_that_changes_while_the_run_goes_is_refused_and_named(store: Store, tmp_path: Path):
    source = tmp_path / "moving_step.py"
    shutil.copyfile(tough.__file__, source)
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import moving_step, tough_steps\n"
        "from engine_help import run_recipe\n"
        "from pipelines.engine.step import Recipe\n"
        "from pipelines.engine.store import Store\n"
        "recipe = Recipe('toy')\n"
        f"first = recipe.step(tough_steps.edits_code, tough_steps.ToughConfig(text={str(source)!r}))\n"
        "recipe.step(moving_step.follows, moving_step.ToughConfig(), left=first)\n"
        f"store = Store({store.root.url!r})\n"
        "run_recipe(recipe, store, run_folder=store.run_folder('moving'))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    status = fold(store.run_folder("moving"))
    assert states(status) == {"edits_code": "done", "follows": "failed"}
    assert status.error is not None
    assert status.error.what == "The code of follows was changed while the run was going: moving_step.py."
    assert status.error.fix == "headwater resume moving plans again with the new code"


@pytest.mark.usefixtures("ray_cluster")
class TestOnRay:
    """Limits and cancelling need steps in processes of their own."""

    def run_aside(self, recipe: Recipe, store: Store, name: str, **options: object) -> tuple[threading.Thread, list]:
        results: list[RunStatus] = []
        folder = store.run_folder(name)

        def drive() -> None:
            results.append(run_recipe(recipe, store, "local", run_folder=folder, **options))  # type: ignore[arg-type]

        thread = threading.Thread(target=drive, daemon=True)
        thread.start()
        return thread, results

    def test_fail_fast_asks_the_others_to_stop(self, store: Store, tmp_path: Path):
        recipe = Recipe("toy")
        recipe.step(tough.talkative, ToughConfig())
        gate = tmp_path / "gate"
        recipe.step(toy.bad_data, ToyConfig(), left=recipe.step(toy.waits_for, ToyConfig(text=str(gate))))
        thread, results = self.run_aside(recipe, store, "fast", on_failure="fail-fast")
        scratch = store.scratch("talkative", plan_of(recipe, store)["talkative"].key)
        _until(lambda: _talks(store.run_folder("fast")))
        gate.touch()
        thread.join(60)
        expected = {"talkative": "stopped", "waits_for": "done", "bad_data": "failed"}
        assert (results[0].state, states(results[0])) == ("failed", expected)
        assert (scratch / "saved").exists()

    def test_a_silent_step_is_started_again(self, store: Store):
        recipe = Recipe("toy")
        recipe.step(tough.silent, ToughConfig())
        status = run_recipe(recipe, store, "local", stall_timeout_s=1.5)
        assert (states(status), status.steps["silent"].attempt) == ({"silent": "done"}, 2)

    def test_a_step_over_its_time_is_asked_to_stop_and_fails(self, store: Store):
        recipe = Recipe("toy")
        recipe.step(tough.talkative, ToughConfig())
        status = run_recipe(recipe, store, "local", timeout_s=1.0)
        assert states(status) == {"talkative": "failed"}
        assert status.error is not None
        assert "its time was over (cluster.timeout_s=1)" in status.error.what
        assert (store.scratch("talkative", plan_of(recipe, store)["talkative"].key) / "saved").exists()

    def test_a_step_that_waits_too_long_for_room_fails(self, store: Store, tmp_path: Path):
        gate = tmp_path / "gate"
        recipe = Recipe("toy")
        recipe.step(toy.waits_for, ToyConfig(text=str(gate)), name="first", cpus=2)
        recipe.step(toy.waits_for, ToyConfig(text=str(gate)), name="second", cpus=2)
        thread, results = self.run_aside(recipe, store, "crowded", pending_timeout_s=2.0)
        _until(lambda: "failed" in states(fold(store.run_folder("crowded"))).values())
        gate.touch()
        thread.join(60)
        assert "failed" in states(results[0]).values()
        assert "it waited too long for room" in str(results[0].error)

    def test_a_cancelled_step_ends_and_the_others_go_on(self, store: Store, tmp_path: Path):
        gate = tmp_path / "gate"
        recipe = Recipe("toy")
        recipe.step(toy.join, ToyConfig(), left=recipe.step(tough.talkative, ToughConfig()))
        recipe.step(toy.waits_for, ToyConfig(text=str(gate)))
        thread, results = self.run_aside(recipe, store, "picky")
        folder = store.run_folder("picky")
        _until(lambda: _talks(folder))
        (folder / "cancel").write_text(json.dumps(["talkative"]))
        _until(lambda: fold(folder).steps["talkative"].state == "stopped")
        assert fold(folder).steps["waits_for"].state in ("running", "waiting")
        gate.touch()
        thread.join(60)
        assert results[0].state == "stopped"
        assert states(results[0])["waits_for"] == "done"


def _talks(folder: Path) -> bool:
    step = fold(folder).steps.get("talkative")
    return step is not None and step.done is not None


def _until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
