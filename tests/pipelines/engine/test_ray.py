"""On a cluster steps give what they give in process, and survive what machines do to them."""

from __future__ import annotations

import os
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

from pipelines.engine.events import RunStatus, fold, read_events, step_folder
from pipelines.engine.step import Recipe, StepFunction
from pipelines.engine.store import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def single(fn: StepFunction, ranks: int = 1, gpus: float = 0.0, **config: object) -> Recipe:
    recipe = Recipe("toy")
    recipe.step(fn, ToyConfig(**config), ranks=ranks, gpus=gpus)  # type: ignore[arg-type]
    return recipe


def run_on_ray(recipe: Recipe, store: Store, **options: object) -> RunStatus:
    return run_recipe(recipe, store, "local", **options)  # type: ignore[arg-type]


def stop_once(begun: Callable[[], bool], stop: threading.Event) -> threading.Thread:
    def watch() -> None:
        deadline = time.monotonic() + 120
        while not begun() and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def kinds(store: Store, status: RunStatus) -> list[str]:
    events = sorted(
        read_events(store.run_folder(status.run_id)), key=lambda event: (event.get("attempt", 0), event["time"])
    )
    return [str(event["kind"]) for event in events if event["step"]]


def test_map_and_launch_give_the_same_bytes_and_metrics_as_in_process(store: Store, tmp_path: Path):
    recipe = Recipe("toy")
    recipe.step(toy.mapping, ToyConfig(count=100))
    recipe.step(toy.launching, ToyConfig(), ranks=2)
    elsewhere = Store(tmp_path / "elsewhere")
    remote, local = run_on_ray(recipe, store), run_recipe(recipe, elsewhere)
    assert (states(remote), remote.error) == ({"mapping": "done", "launching": "done"}, None)
    for name in ("mapping", "launching"):
        assert remote.steps[name].metrics == local.steps[name].metrics
        found = [where.lookup(name, remote.steps[name].key).manifest for where in (store, elsewhere)]
        assert found[0] is not None
        assert found[1] is not None
        assert found[0].content == found[1].content
    log = step_folder(store.run_folder(remote.run_id), "mapping") / "log.txt"
    assert sorted(log.read_text().splitlines()[1:]) == sorted(f"squaring {number}" for number in range(100))
    assert "placing" in kinds(store, remote)
    assert "placed" in kinds(store, remote)


def test_branches_without_a_path_between_them_run_at_the_same_time(store: Store, tmp_path: Path):
    recipe = Recipe("toy")
    gates = [tmp_path / name for name in ("one", "two")]
    for gate in gates:
        recipe.step(toy.waits_for, ToyConfig(text=str(gate)), name=gate.name)

    def open_gates() -> None:
        while not all(Path(f"{gate}.begun").exists() for gate in gates):
            time.sleep(0.02)
        for gate in gates:
            gate.touch()

    threading.Thread(target=open_gates, daemon=True).start()
    assert states(run_on_ray(recipe, store)) == {"one": "done", "two": "done"}


def test_a_step_whose_process_is_killed_is_tried_again(store: Store):
    status = run_on_ray(single(toy.killed_once), store)
    assert states(status) == {"killed_once": "done"}
    assert status.steps["killed_once"].attempt == 2
    assert kinds(store, status) == ["started", "retrying", "started", "done"]


def test_a_step_that_is_always_killed_is_given_up_and_other_branches_are_kept(store: Store):
    recipe = Recipe("toy")
    recipe.step(toy.killed_always, ToyConfig())
    recipe.step(toy.source, ToyConfig())
    status = run_on_ray(recipe, store, max_retries=1)
    assert states(status) == {"killed_always": "failed", "source": "done"}
    assert status.exit_code == 4
    assert status.error is not None
    assert "given up after 2 attempts: its process died" in status.error.what


def test_the_sentence_of_a_failing_rank_arrives_whole_and_nobody_waits_for_its_peer(store: Store):
    status = run_on_ray(single(toy.launching_failure, ranks=2), store)
    assert status.error is not None
    assert (status.error.kind, status.error.what, status.error.where, status.error.fix) == (
        "StepError",
        "Rank 1 has bad data.",
        "row 9",
        "mend row 9",
    )
    assert kinds(store, status)[-1] == "failed"


def test_a_killed_rank_is_a_crash_and_tried_again(store: Store):
    status = run_on_ray(single(toy.launching_killed, ranks=2), store)
    assert (states(status), status.error) == ({"launching_killed": "done"}, None)
    assert status.steps["launching_killed"].attempt == 2
    assert status.steps["launching_killed"].metrics == {"sum": 2.0}


def test_the_cores_of_ranks_come_back_when_their_step_is_killed(store: Store):
    status = run_on_ray(single(toy.launching_then_killed, ranks=2), store)
    assert (states(status), status.error) == ({"launching_then_killed": "done"}, None)
    assert kinds(store, status) == ["started", "placing", "placed", "retrying", "started", "placing", "placed", "done"]


def test_ranks_that_wait_for_room_can_be_stopped(store: Store, tmp_path: Path):
    gate = tmp_path / "gate"
    recipe = Recipe("toy")
    recipe.step(toy.waits_for, ToyConfig(text=str(gate)))
    recipe.step(toy.launching, ToyConfig(), ranks=2)
    folder = store.run_folder("waiting")
    stop = threading.Event()

    def both_began() -> bool:
        return Path(f"{gate}.begun").exists() and any(event["kind"] == "placing" for event in read_events(folder))

    watcher = stop_once(both_began, stop)
    status = run_on_ray(recipe, store, stop=stop, run_folder=folder)
    watcher.join()
    assert states(status) == {"waits_for": "stopped", "launching": "stopped"}
    assert not any("force" in step.note for step in status.steps.values())


def test_more_ranks_than_the_cluster_can_ever_hold_fail_at_once(store: Store):
    status = run_on_ray(single(toy.launching, ranks=300), store)
    assert status.exit_code == 4
    assert status.error is not None
    assert status.error.what.startswith("Step launching needs 300 ranks of 1 cores, but the cluster has ")
    assert states(status) == {"launching": "skipped"}


def test_gpus_the_cluster_does_not_have_fail_at_once(store: Store):
    status = run_on_ray(single(toy.source, gpus=1.0), store)
    assert status.error is not None
    assert status.error.what == "Step source needs 1 cores and 1 GPUs, but the cluster has 0 GPUs."


def test_an_error_in_an_item_of_a_map_arrives_whole(store: Store):
    status = run_on_ray(single(toy.mapping_bad), store)
    assert status.error is not None
    assert (status.error.what, status.error.where) == ("A negative number.", "-3")


def test_an_item_whose_process_is_killed_is_tried_again(store: Store):
    status = run_on_ray(single(toy.mapping_killed), store)
    assert (states(status), status.steps["mapping_killed"].metrics) == ({"mapping_killed": "done"}, {"sum": 3.0})


def test_maps_of_more_steps_than_cores_do_not_block_each_other(store: Store):
    recipe = Recipe("toy")
    for number in range(3):
        recipe.step(toy.mapping, ToyConfig(count=20 + number), name=f"mapping_{number}")
    assert set(states(run_on_ray(recipe, store)).values()) == {"done"}


def test_a_map_stops_between_items(store: Store, tmp_path: Path):
    stop = threading.Event()
    mark = tmp_path / "mark"
    watcher = stop_once(Path(f"{mark}.begun").exists, stop)
    status = run_on_ray(single(toy.mapping_slowly, text=str(mark)), store, stop=stop)
    watcher.join()
    assert (status.state, kinds(store, status)) == ("stopped", ["started", "stopped"])
    assert "force" not in status.steps["mapping_slowly"].note


def test_a_step_that_does_not_listen_is_ended_after_its_grace(store: Store, tmp_path: Path):
    stop = threading.Event()
    mark = tmp_path / "mark"
    watcher = stop_once(Path(f"{mark}.begun").exists, stop)
    status = run_on_ray(single(toy.deaf, text=str(mark)), store, stop=stop, grace_s=0.5)
    watcher.join()
    assert (status.state, status.exit_code) == ("stopped", 3)
    assert status.steps["deaf"].note == "ended by force, it did not end within 0.5 s"
    assert states(run_on_ray(single(toy.source), store)) == {"source": "done"}


def test_a_step_whose_machine_goes_down_with_the_stop_counts_as_stopped(store: Store, tmp_path: Path):
    stop = threading.Event()
    mark = tmp_path / "mark"
    watcher = stop_once(Path(f"{mark}.begun").exists, stop)
    status = run_on_ray(single(toy.dies_when_asked, text=str(mark)), store, stop=stop)
    watcher.join()
    assert (status.state, status.exit_code, states(status)) == ("stopped", 3, {"dies_when_asked": "stopped"})


def test_a_stopped_step_continues_in_the_next_run(store: Store):
    stop = threading.Event()
    recipe = single(toy.counting, count=150)
    saved = store.scratch("counting", plan_of(recipe, store)["counting"].key) / "count"
    watcher = stop_once(saved.exists, stop)
    assert run_on_ray(recipe, store, stop=stop).state == "stopped"
    watcher.join()
    status = run_on_ray(recipe, store)
    assert status.steps["counting"].metrics["started_at"] > 0


def test_steps_run_in_other_processes_than_the_driver(store: Store, tmp_path: Path):
    gate = tmp_path / "gate"
    gate.touch()
    recipe = single(toy.waits_for, text=str(gate))
    run_on_ray(recipe, store)
    artifact = plan_of(recipe, store)["waits_for"].artifact
    assert artifact is not None
    assert int((artifact / "pid.txt").read_text()) != os.getpid()


@pytest.mark.slow
def test_a_killed_driver_takes_its_ranks_with_it_and_the_next_run_continues(store: Store, tmp_path: Path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import toy_steps as toy\n"
        "from engine_help import run_recipe\n"
        "from pipelines.engine.step import Recipe\n"
        "from pipelines.engine.store import Store\n"
        "store, recipe = Store(sys.argv[1]), Recipe('toy')\n"
        "recipe.step(toy.counting_ranks, toy.ToyConfig(count=200), ranks=2)\n"
        "run_recipe(recipe, store, 'local', run_folder=store.run_folder('killed'))\n"
    )
    recipe = single(toy.counting_ranks, ranks=2, count=200)
    saved = store.scratch("counting_ranks", plan_of(recipe, store)["counting_ranks"].key) / "count"
    with subprocess.Popen([sys.executable, "-c", program, store.root.url]) as driver:
        stop = threading.Event()
        stop_once(saved.exists, stop).join()
        driver.kill()
    assert fold(store.run_folder("killed")).state == "interrupted"
    status = run_on_ray(recipe, store)
    assert (states(status), status.error) == ({"counting_ranks": "done"}, None)
    assert status.steps["counting_ranks"].metrics["started_at"] >= 1


def test_the_status_is_the_same_for_any_reader(store: Store):
    status = run_on_ray(single(toy.source), store)
    assert fold(store.run_folder(status.run_id)) == status
