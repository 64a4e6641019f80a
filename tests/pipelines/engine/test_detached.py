"""Drivers and heads are killed; long steps go on, are taken up again, and leave no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_help import states
from ray_head import Head, processes_of, ray_head

from pipelines.engine.events import DRIVER_LOCK, fold, read_events
from pipelines.engine.lock import is_held
from pipelines.engine.store import Store

pytestmark = pytest.mark.timeout(240)

DRIVE = """
import sys, threading
import tough_steps as tough
from components.publish import publish_json
from pipelines.engine import remote
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
remote.LOST_AFTER_S = 4.0  # not ten, which are for heads that are busy
address, root, run, mark, count = sys.argv[1:]
recipe = Recipe("long")
top = recipe.step(tough.letters, tough.ToughConfig())
long = recipe.step(tough.obedient, tough.ToughConfig(text=mark, count=int(count)), detached=True)
store = Store(root)
plan = make_plan(recipe.steps, store)
folder = store.run_folder(run)
publish_json(folder / "plan.json", plan.to_json())
kind = "local" if address == "local" else "ray"
cluster = ClusterConfig(kind=kind, address=address, num_cpus=2, lease_s=6.0)
status = execute(plan, store, folder, cluster, threading.Event())
print(status.error)
sys.exit(status.exit_code)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def drive(head: Head, store: Store, run: str, mark: Path, count: int = 3_000) -> subprocess.Popen[bytes]:
    """A driver of `letters` and of `obedient`, which goes on until there is a file beside the mark: see `enough`."""
    command = [sys.executable, "-c", DRIVE, head.address, store.root.url, run, str(mark), str(count)]
    return subprocess.Popen(command, env={**os.environ, **head.environment}, stdout=subprocess.PIPE)


def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def counts(store: Store, run: str) -> bool:
    step = fold(store.run_folder(run)).steps.get("obedient")
    return step is not None and (step.done or 0) > 3


def pids(mark: Path) -> list[int]:
    return [int(line) for line in Path(f"{mark}.pids").read_text().split()]


def enough(mark: Path) -> None:
    """Lets `obedient` end."""
    Path(f"{mark}.enough").touch()


def has(store: Store, run: str, kind: str) -> bool:
    return any(event["kind"] == kind for event in read_events(store.run_folder(run)))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def test_a_long_step_outlives_its_driver_and_the_next_one_takes_it_up(head: Head, store: Store, tmp_path: Path):
    mark, folder = tmp_path / "mark", store.run_folder("killed")
    with drive(head, store, "killed", mark) as first:
        until(lambda: counts(store, "killed"))
        first.kill()
    assert fold(folder).state == "interrupted"
    before = fold(folder).steps["obedient"].done or 0
    until(lambda: (_progress(folder) or 0) > before + 3)
    second = drive(head, store, "killed", mark)
    until(lambda: has(store, "killed", "attached"))
    enough(mark)
    assert second.wait(120) == 0
    status = fold(folder)
    assert states(status) == {"letters": "cached", "obedient": "done"}
    assert pids(mark) == [int(status.steps["obedient"].metrics["pid"])]
    assert status.steps["obedient"].metrics["started_at"] == 0


def _progress(folder: Path) -> int | None:
    from pipelines.engine.progress import read_tail

    return read_tail(folder / "steps" / "obedient" / "journal.jsonl").done


def test_an_actor_whose_work_is_done_gives_its_cores_back(head: Head, store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    assert drive(head, store, "quick", mark, count=5).wait(120) == 0
    until(lambda: not alive(pids(mark)[0]), 30)


def test_sigterm_asks_a_long_step_to_save_and_leaves_it(head: Head, store: Store, tmp_path: Path):
    mark, folder = tmp_path / "mark", store.run_folder("left")
    with drive(head, store, "left", mark) as first:
        until(lambda: counts(store, "left"))
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 3
    assert (fold(folder).state, states(fold(folder))["obedient"]) == ("stopped", "detached")
    until(lambda: Path(f"{mark}.saved").exists())
    assert alive(pids(mark)[0])
    second = drive(head, store, "left", mark)
    until(lambda: has(store, "left", "attached"))
    enough(mark)
    assert second.wait(120) == 0
    assert len(pids(mark)) == 1


def test_sigint_stops_a_long_step_and_resume_goes_on_from_there(head: Head, store: Store, tmp_path: Path):
    mark, folder = tmp_path / "mark", store.run_folder("stopped")
    with drive(head, store, "stopped", mark) as first:
        until(lambda: counts(store, "stopped"))
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 3
    assert states(fold(folder))["obedient"] == "stopped"
    enough(mark)
    assert drive(head, store, "stopped", mark).wait(120) == 0
    assert fold(folder).steps["obedient"].metrics["started_at"] > 0


def test_another_run_shares_what_an_orphan_makes(head: Head, store: Store, tmp_path: Path):
    mark = tmp_path / "mark"
    with drive(head, store, "orphaned", mark) as first:
        until(lambda: counts(store, "orphaned"))
        first.kill()
    other = drive(head, store, "other", mark)
    until(lambda: has(store, "other", "busy"))
    enough(mark)
    assert other.wait(120) == 0
    assert fold(store.run_folder("other")).steps["obedient"].producer_run == "orphaned"
    assert len(pids(mark)) == 1


def test_a_killed_actor_is_tried_again_from_its_scratch(head: Head, store: Store, tmp_path: Path):
    mark, folder = tmp_path / "mark", store.run_folder("actor")
    with drive(head, store, "actor", mark) as driver:
        until(lambda: counts(store, "actor"))
        os.kill(pids(mark)[0], signal.SIGKILL)
        enough(mark)
        assert driver.wait(120) == 0
    assert fold(folder).steps["obedient"].attempt == 2
    assert len(pids(mark)) == 2


def test_a_killed_head_is_told_in_a_sentence_and_resume_on_another_finishes(head: Head, store: Store, tmp_path: Path):
    mark, folder = tmp_path / "mark", store.run_folder("headless")
    with ray_head() as first:
        driver = drive(first, store, "headless", mark)
        until(lambda: counts(store, "headless"))
        first.kill()
        assert driver.wait(90) == 4
        assert driver.stdout is not None
        said = driver.stdout.read().decode()
        assert "The Ray cluster at" in said
        assert f"{first.address.rpartition(':')[2]} is gone." in said
        assert "headwater resume headless" in said
    assert not is_held(folder / DRIVER_LOCK)
    assert fold(folder).state == "failed"
    assert processes_of(first.folder) == []
    enough(mark)
    assert drive(head, store, "headless", mark).wait(120) == 0
    assert states(fold(folder)) == {"letters": "cached", "obedient": "done"}


ROOT = Path(__file__).resolve().parents[3]


def headwater(head: Head, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", *words, f"cluster.address={head.address}", "cluster=ray"]
    environment = {**os.environ, **head.environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def start_slow_crawl(head: Head, store: Path, run: str) -> tuple[subprocess.Popen[str], int]:
    """A run whose crawl would take hours; returns its driver and the process of the crawl."""
    words = ["preset=micro", f"store={store}", "tracking=off", "crawl.delay_s=60", "cluster.grace_s=5"]
    driver = headwater(head, "run", "--until", "crawl", "--run-id", run, *words)
    folder = store / "runs" / run
    until(lambda: driver.poll() is not None or (folder / "steps/crawl/journal.jsonl").exists(), 120)
    assert driver.poll() is None
    started = [event for event in read_events(folder) if event["kind"] == "started" and event["step"] == "crawl"]
    return driver, int(str(started[0]["pid"]))


@pytest.mark.parametrize("driver_lives", [True, False])
def test_cancel_ends_a_run_with_or_without_its_driver_and_leaves_no_orphans(
    head: Head, tmp_path: Path, driver_lives: bool
):
    driver, crawl = start_slow_crawl(head, tmp_path, "slow-1")
    if not driver_lives:
        driver.kill()
        driver.wait()
        assert alive(crawl)
    done = headwater(head, "cancel", "slow-1", f"store={tmp_path}")
    said, errors = done.communicate(timeout=60)
    assert (done.returncode, said, errors) == (0, "run slow-1: ended crawl\n", "")
    until(lambda: not alive(crawl), 15)
    assert fold(tmp_path / "runs" / "slow-1").state == "stopped"
    if driver_lives:
        assert driver.wait(30) == 3
