"""A cluster loses a machine under a step: the step goes on with fewer ranks, and with all once there are enough."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from engine_help import states
from ray_head import Head, ray_head, ray_node

from pipelines.engine.events import RunStatus, fold, read_events
from pipelines.engine.ranks import num_places
from pipelines.engine.step import Resources
from pipelines.engine.store import Store

DRIVE = """
import sys, threading, time
import ray
import elastic_steps as elastic
from components.publish import publish_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.plan import make_plan
from pipelines.engine.remote import connect
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
address, root, run, count, least = sys.argv[1:]
recipe = Recipe("elastic")
config = elastic.ElasticConfig(count=int(count), min_ranks=int(least))
recipe.step(elastic.counting_anywhere, config, ranks=3, min_ranks=int(least))
store = Store(root)
plan = make_plan(recipe.steps, store)
folder = store.run_folder(run)
publish_json(folder / "plan.json", plan.to_json())
cluster = ClusterConfig(kind="ray", address=address, node_wait_s=3.0, lease_s=6.0)
connect(cluster)
while sum(node["Alive"] for node in ray.nodes()) < 3:
    time.sleep(0.1)
status = execute(plan, store, folder, cluster, threading.Event())
sys.exit(status.exit_code)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def head() -> Iterator[Head]:
    with ray_head(num_cpus=1) as running:
        yield running


def drive(head: Head, store: Store, run: str, count: int, least: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", DRIVE, head.address, store.root.url, run, str(count), str(least)]
    return subprocess.Popen(command, env={**os.environ, **head.environment})


def until(condition: Callable[[], bool], deadline_s: float = 300.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def history(store: Store) -> list[tuple[int, int]]:
    """Numbers counted, each with the ranks that were there, in the newest scratch folder."""
    found = sorted(Path(store.root.url).rglob("history"), key=lambda path: path.stat().st_mtime)
    lines = found[-1].read_text().splitlines() if found else []
    return [(int(number), int(ranks)) for number, ranks in (line.split() for line in lines)]


def notes(store: Store, status: RunStatus, kind: str) -> list[str]:
    return [str(event["note"]) for event in read_events(store.run_folder(status.run_id)) if event["kind"] == kind]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lost_machine_leaves_fewer_ranks_and_a_new_one_brings_them_back(store: Store, head: Head):
    with ExitStack() as nodes:
        lost, _ = (nodes.enter_context(ray_node(head)) for _ in range(2))
        driver = drive(head, store, "loses", count=100)
        until(lambda: len(history(store)) > 5)
        assert {ranks for _, ranks in history(store)} == {3}
        lost.kill()
        assert driver.wait(400) == 0
        status = fold(store.run_folder("loses"))
        assert states(status) == {"counting_anywhere": "done"}
        assert status.steps["counting_anywhere"].metrics["world"] == 2
        assert status.steps["counting_anywhere"].metrics["started_at"] > 0
        assert [number for number, _ in history(store) if number == 99] == [99]
        assert [ranks for _, ranks in history(store)] == sorted((ranks for _, ranks in history(store)), reverse=True)
        assert notes(store, status, "placing")[-1].startswith("2 ranks instead of 3, machines are missing")
        assert notes(store, status, "retrying")[0].startswith("its node was lost")

        nodes.enter_context(ray_node(head))
        again = drive(head, store, "whole", count=3)
        assert again.wait(400) == 0
        assert fold(store.run_folder("whole")).steps["counting_anywhere"].metrics["world"] == 3


def test_room_is_counted_machine_by_machine():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert num_places(nodes, Resources(cpus=1)) == 8
    assert num_places(nodes, Resources(cpus=2)) == 3
    assert num_places(nodes, Resources(cpus=1, gpus=1)) == 1
    assert num_places(nodes, Resources(cpus=1, gpus=0.5)) == 2
    assert num_places([], Resources(cpus=1)) == 0
