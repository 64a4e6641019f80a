"""The driver of the sample run is killed in every stage; resuming ends with what an undisturbed run ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import Head, ray_head

from components.publish import sha256_of
from pipelines.engine.events import fold, read_events
from pipelines.engine.store import Store
from pipelines.verbs.show import artifact_of

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["site", "crawl", "instructions", "preferences", "extract", "score", "sketch", "clean", "dedup"]
STAGES += ["decontaminate", "tokenizer", "tokens", "pack", "card", "pretrain", "sft", "reward", "ppo", "evaluate"]
DETACHED = ["crawl", "pretrain", "sft", "reward", "ppo"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as running:
        yield running


def headwater(head: Head, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.cli", *words]
    environment = {**os.environ, **head.environment}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def settings(head: Head, store: Path) -> list[str]:
    return [f"store={store}", "cluster=ray", f"cluster.address={head.address}", "cluster.lease_s=9", "tracking=off"]


def wait_for(folder: Path, stage: str, driver: subprocess.Popen[bytes]) -> str:
    """Waits until a stage runs or is over; returns its state."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if (folder / "plan.json").exists():
            state = fold(folder).steps[stage].state
            if state not in ("waiting", "skipped", "stopped"):
                return state
        if driver.poll() is not None:
            return "ended"
        time.sleep(0.02)
    raise AssertionError(f"{stage} did not begin in ten minutes")


def results(store: Path, run: str) -> dict[str, str]:
    """Hashes of what a run is judged by."""
    files = {"tokens": "", "pretrain": "model/model.safetensors", "sft": "model/model.safetensors"}
    files |= {"reward": "model/model.safetensors", "ppo": "model/model.safetensors", "evaluate": "scores.json"}
    folder = store / "runs" / run
    opened = Store(store)
    found = {step: artifact_of(opened, folder, step) / name for step, name in files.items() if name}
    return {step: sha256_of(path) for step, path in found.items()}


def test_a_driver_killed_in_every_stage_costs_nothing_but_time(head: Head, tmp_path: Path) -> None:
    quiet, disturbed = tmp_path / "quiet", tmp_path / "disturbed"
    assert headwater(head, "run", "preset=micro", "--run-id", "quiet-1", *settings(head, quiet)).wait() == 0

    folder = disturbed / "runs" / "killed-1"
    driver = headwater(head, "run", "preset=micro", "--run-id", "killed-1", *settings(head, disturbed))
    killed = []
    for stage in STAGES:
        state = wait_for(folder, stage, driver)
        if state == "running":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            killed.append(stage)
            driver = headwater(head, "resume", "killed-1", *settings(head, disturbed))
    assert driver.wait() == 0
    print(f"killed in {len(killed)} of {len(STAGES)} stages: {', '.join(killed)}")

    assert set(DETACHED) <= set(killed)
    assert len(killed) >= 10
    assert {step.state for step in fold(folder).steps.values()} <= {"done", "cached"}
    assert results(disturbed, "killed-1") == results(quiet, "quiet-1")
    for stage in DETACHED:
        started = [event for event in read_events(folder) if event["kind"] == "started" and event["step"] == stage]
        assert len({event["pid"] for event in started}) == 1, f"{stage} was restarted"
