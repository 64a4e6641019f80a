"""Many processes want one key, and holders are stopped and woken: one build each, and nothing from the dead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import race_help
from commit_help import DRAFT, KEY, write

from pipelines.engine.lease import Lease, Watch
from pipelines.engine.store import Store, place_of

PROCESSES = 8
LEASE_S = 1.0


def place_and_workspace(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> tuple[str, str]:
    url = str(tmp_path / "store") if kind == "folder" else request.getfixturevalue("s3_url")
    return url, str(tmp_path / ("store" if kind == "folder" else "workspace"))


@pytest.mark.parametrize(("kind", "rounds"), [("folder", 50), pytest.param("s3", 10, marks=pytest.mark.slow)])
def test_of_eight_processes_that_want_a_key_one_builds_it_and_all_get_it(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, rounds: int
):
    url, workspace = place_and_workspace(request, kind, tmp_path)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    racers = [
        context.Process(target=race_help.race, args=(url, f"{workspace}/{number}" * (kind == "s3") or workspace,
                                                     barrier, rounds))
        for number in range(PROCESSES)
    ]  # fmt: skip
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(300)
    assert [racer.exitcode for racer in racers] == [0] * PROCESSES
    store = Store(url, workspace)
    for number in range(rounds):
        key = race_help.key_of(number)
        builders = store.root.children(f"builds/{key}")
        assert len(builders) == 1, f"round {number} was built {len(builders)} times"
        made = store.lookup("clean", key).manifest
        assert made is not None
        assert (store.fetch(made) / "maker.txt").read_text() == builders[0]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_holder_that_is_stopped_past_its_lease_and_woken_cannot_publish(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
):
    url, workspace = place_and_workspace(request, kind, tmp_path)
    command = [sys.executable, race_help.__file__, url, f"{workspace}" + "/1" * (kind == "s3"), str(LEASE_S)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        store, watch = Store(url, workspace), Watch(LEASE_S)
        wait_while_beating(store, watch)
        os.kill(holder.pid, signal.SIGSTOP)
        lease = take_over(store, watch)
        attempt = store.begin(lease)
        os.kill(holder.pid, signal.SIGCONT)
        assert holder.communicate("go\n", timeout=60)[0].startswith("lost: The lease of artifacts/clean/")
    finally:
        holder.kill()
        holder.wait()
    assert store.lookup("clean", KEY).manifest is None
    write(attempt, {"maker.txt": "the second"})
    found = store.commit(lease, attempt, DRAFT)
    assert store.lookup("clean", KEY) == found
    assert "000001" not in store.root.children(place_of("clean", KEY))
    assert [path for path in tmp_path.rglob("*") if "000001" in path.parts and path.is_file()] == []


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(Path.cwd())])}


def wait_while_beating(store: Store, watch: Watch) -> None:
    """Three lease times in which the holder is seen alive."""
    end = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < end:
        assert not watch.is_stale(place_of("clean", KEY), store.look("clean", KEY))
        time.sleep(0.05)


def take_over(store: Store, watch: Watch) -> Lease:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        seen = store.look("clean", KEY)
        if watch.is_stale(place_of("clean", KEY), seen):
            lease = store.acquire("clean", KEY, f"run-{uuid.uuid4().hex[:4]}", LEASE_S, seen.epoch)
            assert isinstance(lease, Lease)
            return lease
        time.sleep(0.05)
    raise AssertionError("a stopped holder was never found stale")
