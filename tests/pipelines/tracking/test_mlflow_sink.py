"""The uploader process: it follows, it finishes, and it outlives a driver that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from components.channel import Channel
from components.errors import MachineError
from components.publish import publish_json, read_json
from pipelines.engine.events import append
from pipelines.engine.lock import try_lock
from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mirror import PROGRESS_FILE
from pipelines.tracking.mlflow_sink import LOCK, follow, replay, tracked
from pipelines.tracking.reaper import reap, unfinished

Drive = Callable[..., Path]
Look = Callable[[Any, str], Any]
DEADLINE_S = 60.0

DRIVER = """
import json, sys
from pathlib import Path
from pipelines.engine.events import append
from pipelines.engine.lock import try_lock
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mlflow_sink import tracked
folder, store, config = Path(sys.argv[1]), Path(sys.argv[2]), TrackingConfig(**json.loads(sys.argv[3]))
with tracked(folder, config, store), try_lock(folder / "driver.lock"):
    append(folder, "run_started", session=2)
    append(folder, "started", "teach", session=2, attempt=1)
    print("running", flush=True)
    sys.stdin.read()
"""


def start_driver(folder: Path, store: Path, config: TrackingConfig) -> subprocess.Popen[bytes]:
    """A driver that says that it runs `teach`, and waits."""
    command = [sys.executable, "-c", DRIVER, str(folder), str(store), json.dumps(asdict(config))]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"running\n"
    return driver


def uploader_of(driver: subprocess.Popen[bytes]) -> int:
    """Process id of the uploader that a driver has."""
    threads = Path(f"/proc/{driver.pid}/task").glob("*/children")
    children = [int(pid) for thread in threads for pid in thread.read_text().split()]
    (uploader,) = [pid for pid in children if b"mlflow_sink" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return uploader


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def complete(folder: Path) -> bool:
    return read_json(folder / PROGRESS_FILE)["complete"] is True


def test_a_tracked_run_is_complete_in_mlflow_soon_after_the_block_ends(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    with tracked(folder, config, store):
        pass
    until(lambda: complete(folder))
    seen = look(connect(config, store)[0], "amber-1")
    assert seen.parent.info.status == "FINISHED"
    assert len(seen.children) == 3
    until(lambda: list(unfinished(store)) == [])


def test_a_run_that_is_not_tracked_leaves_no_trace(store: Path, drive: Drive) -> None:
    folder = drive(store, "amber-1")
    with tracked(folder, TrackingConfig(enabled=False), store):
        pass
    assert not (folder / PROGRESS_FILE).exists()
    assert reap(store, TrackingConfig()) == []


def test_a_driver_that_is_killed_leaves_a_run_that_is_closed_as_killed(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    driver = start_driver(folder, store, config)
    client = connect(config, store)[0]
    until(lambda: bool(client.search_runs(["1"], "tags.`headwater.step` = 'teach'")))
    assert look(client, "amber-1").parent.info.status == "RUNNING"
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    until(lambda: complete(folder))
    seen = look(client, "amber-1")
    assert (seen.parent.info.status, seen.children["teach"].info.status) == ("KILLED", "KILLED")


def test_an_uploader_that_is_killed_is_replaced_while_the_run_goes(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    driver = start_driver(folder, store, config)
    os.kill(uploader_of(driver), signal.SIGKILL)
    Channel(folder / "steps" / "teach").log({"loss": 0.1}, 6)
    client = connect(config, store)[0]
    until(lambda: bool(client.search_runs(["1"], "metrics.`teach/loss` < 0.15")))
    assert look(client, "amber-1").parent.info.status == "RUNNING"
    driver.communicate()
    until(lambda: complete(folder))
    seen = look(client, "amber-1")
    assert [step for step, _ in seen.history["teach"]["teach/loss"]] == [1, 2, 3, 4, 5, 6]
    assert seen.parent.info.status == "KILLED"


def test_when_driver_and_uploader_are_killed_together_the_next_command_closes_the_run(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    driver = start_driver(folder, store, config)
    client = connect(config, store)[0]
    until(lambda: bool(client.search_runs(["1"], "tags.`headwater.step` = 'teach'")))
    os.kill(driver.pid, signal.SIGSTOP)
    os.kill(uploader_of(driver), signal.SIGKILL)
    driver.kill()
    driver.communicate()
    assert look(client, "amber-1").parent.info.status == "RUNNING"
    assert reap(store, config) == ["amber-1"]
    until(lambda: complete(folder))
    seen = look(client, "amber-1")
    assert (seen.parent.info.status, seen.children["teach"].info.status) == ("KILLED", "KILLED")


def test_a_run_left_behind_by_a_dead_machine_is_closed_by_the_next_command(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    publish_json(folder / PROGRESS_FILE, {"parent": None, "offsets": {}, "complete": False})
    append(folder, "run_started", session=2)
    assert reap(store, config) == ["amber-1"]
    until(lambda: complete(folder))
    assert look(connect(config, store)[0], "amber-1").parent.info.status == "KILLED"
    assert reap(store, config) == []


def test_a_run_that_goes_or_is_about_to_start_is_not_reaped(store: Path, config: TrackingConfig, drive: Drive) -> None:
    going = drive(store, "amber-1")
    publish_json(going / PROGRESS_FILE, {"complete": False})
    append(going, "run_started", session=2)
    starting = store / "runs" / "amber-2"
    publish_json(starting / PROGRESS_FILE, {"complete": False})
    with try_lock(going / "driver.lock"):
        assert list(unfinished(store)) == []
    assert list(unfinished(store)) == [going]


def test_a_run_that_an_uploader_works_on_is_left_to_it(store: Path, config: TrackingConfig, drive: Drive) -> None:
    folder = drive(store, "amber-1")
    publish_json(folder / PROGRESS_FILE, {"complete": False})
    with try_lock(folder / LOCK):
        assert list(unfinished(store)) == []
        with pytest.raises(MachineError, match="is being uploaded"):
            replay(folder, config, store)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int) -> Iterator[None]:
    """MLflow's own server, in a thread; nothing answers on the port before and after."""
    from mlflow.server import app
    from werkzeug.serving import make_server

    serving = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def test_a_server_that_goes_away_in_the_middle_loses_and_doubles_nothing(
    store: Path, config: TrackingConfig, drive: Drive, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{store / 'mlflow' / 'mlflow.db'}")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(store / "served"))
    monkeypatch.chdir(store)  # the server keeps artifacts below where it runs
    port = free_port()
    remote = replace(config, uri=f"http://127.0.0.1:{port}", linger_s=DEADLINE_S)
    folder = drive(store, "amber-1", steps=40)
    journal = folder / "steps/teach/journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:15]) + lines[15][:10])
    append(folder, "run_started", session=2)
    append(folder, "started", "teach", session=2, attempt=1)
    over: threading.Event = threading.Event()
    results: list[bool] = []
    uploader = threading.Thread(target=lambda: results.append(follow(folder, remote, store, over)))
    uploader.start()  # there is no server yet
    time.sleep(1.0)
    with server(port):
        until(lambda: (folder / PROGRESS_FILE).exists() and "teach" in str(read_json(folder / PROGRESS_FILE)))
    journal.write_bytes(b"".join(lines))  # the step ends while the server is away
    append(folder, "done", "teach", session=2, attempt=1, seconds=1.0, metrics={"loss": 0.025})
    append(folder, "run_ended", session=2, state="done")
    over.set()
    time.sleep(1.0)
    with server(port):
        uploader.join(DEADLINE_S)
    assert results == [True]
    seen = look(connect(config, store)[0], "amber-1")
    assert seen.history["teach"]["teach/lr"] == [(step, 0.1) for step in range(1, 41)]
    assert (seen.parent.info.status, seen.children["teach"].info.status) == ("FINISHED", "FINISHED")


def test_a_run_that_is_followed_again_counts_as_incomplete(
    store: Path, config: TrackingConfig, drive: Drive, look: Look
) -> None:
    folder = drive(store, "amber-1")
    replay(folder, config, store)
    assert complete(folder)
    nowhere = replace(config, uri=f"http://127.0.0.1:{free_port()}", linger_s=0.0)
    over = threading.Event()
    over.set()
    assert follow(folder, nowhere, store, over) is False
    assert not complete(folder)
    assert list(unfinished(store)) == [folder]


def test_a_server_that_never_answers_is_given_up_with_a_line_in_the_log(
    store: Path, config: TrackingConfig, drive: Drive, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = drive(store, "amber-1")
    over = threading.Event()
    over.set()
    nowhere = replace(config, uri=f"http://127.0.0.1:{free_port()}", linger_s=0.0)
    assert follow(folder, nowhere, store, over) is False
    assert "giving up for now" in capfd.readouterr().err
    with pytest.raises(MachineError, match="could not be sent"):
        replay(folder, nowhere, store)
