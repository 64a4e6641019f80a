"""MLflow's own server is killed with SIGKILL while a step logs every 20 ms: the step does not notice, no row is lost.

That a log call never waits for a server is asserted by what can be counted: the process of driver and step asks nothing
of the network, and the step ends while no server is there. The pauses in milliseconds are printed, not judged.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from components.publish import read_json
from pipelines.engine.lock import is_held
from pipelines.engine.store import Store
from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig, mlflow_folder
from pipelines.tracking.mlflow_sink import LOCK, replay
from pipelines.tracking.schema import ensure_database
from pipelines.tracking.ui import server_command

DEADLINE_S = 120.0
KEYS = ("loss", "rate")


def until(what: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


class Ticking:
    """A run of the ticking step, and the MLflow server it is tracked at; nothing listens until `up`."""

    def __init__(self, folder: Path, linger_s: float = DEADLINE_S) -> None:
        self.store, self.served = folder / "store", folder / "served"
        self.folder, self.end_file = self.store / "runs" / "tick-1", folder / "end"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.config = TrackingConfig(uri=f"http://127.0.0.1:{self.port}", linger_s=linger_s, flush_s=1.0)
        self.outages: list[tuple[float, float]] = []
        ensure_database(mlflow_folder(self.served))

    def start(self) -> None:
        """Starts the driver."""
        arguments = [self.folder, self.store, json.dumps(asdict(self.config)), self.end_file]
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self.driver = subprocess.Popen(
            [sys.executable, "-c", "import ticking; ticking.main()", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=subprocess.PIPE,
            text=True,
        )
        until(self.journal.exists)

    def end(self) -> None:
        """Lets the step end and waits for its driver."""
        self.end_file.touch()
        assert self.driver.communicate(timeout=DEADLINE_S)[0] == "done\n"

    @property
    def journal(self) -> Path:
        return self.folder / "steps" / "tick" / "journal.jsonl"

    @contextmanager
    def up(self) -> Iterator[None]:
        """The server, until it is killed."""
        command, environment = server_command(self.served, TrackingConfig(), "127.0.0.1", self.port)
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            until(self.answers)
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()

    def answers(self) -> bool:
        """Tells whether the server is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def caught_up(self) -> None:
        """Waits until all that the journal holds now was sent."""
        size = self.journal.stat().st_size
        progress = self.folder / "tracking.json"
        until(lambda: progress.exists() and dict(read_json(progress)["offsets"]).get("tick", 0) >= size)  # type: ignore[call-overload]

    def complete(self) -> bool:
        """Tells whether MLflow has all of the run, for what the uploader knows."""
        return read_json(self.folder / "tracking.json")["complete"] is True

    def given_up(self) -> bool:
        """Tells whether the uploader has ended without having sent everything."""
        log = (self.folder / "tracking.log").read_text()
        return "giving up for now" in log and not is_held(self.folder / LOCK)

    def said(self) -> dict[str, list[tuple[int, float, int]]]:
        """Step, value and time in milliseconds of each row of the journal."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        rows = [line for line in lines if line["kind"] == "metrics"]
        return {key: [(row["step"], row["values"][key], round(row["time"] * 1000)) for row in rows] for key in KEYS}

    def seen(self) -> tuple[dict[str, list[tuple[int, float, int]]], dict[str, str]]:
        """The same of what is in the server's database, and the status of every run there."""
        client: Any = connect(TrackingConfig(), self.served)[0]
        experiment = client.get_experiment_by_name("headwater").experiment_id
        runs = {run.info.run_name: run for run in client.search_runs([experiment])}
        history = {key: client.get_metric_history(runs["tick"].info.run_id, f"tick/{key}") for key in KEYS}
        rows = {key: sorted((row.step, row.value, row.timestamp) for row in found) for key, found in history.items()}
        return rows, {name: run.info.status for name, run in runs.items()}

    def show_pauses(self, name: str, outages: list[tuple[float, float]]) -> None:
        """Prints the longest pauses of the step, with the server there and without.

        What is longer from call to call than inside a call is the machine's: the step slept 20 ms and was woken late.
        """
        (path,) = (self.store / "artifacts" / "tick").rglob("calls.json")
        calls = json.loads(path.read_text())
        gaps = [(at, at - before, took) for (before, _), (at, took) in itertools.pairwise(calls)]
        down = [gap for gap in gaps if any(start <= gap[0] <= end for start, end in outages)]
        without = set(down)
        up = [gap for gap in gaps if gap not in without]
        print(f"\n{name}: {len(calls)} log calls, load {os.getloadavg()[0]:.1f}")
        for state, some in (("up", up), ("down", down)):
            if some:
                between, inside = [1000 * gap for _, gap, _ in some], [1000 * took for _, _, took in some]
                print(
                    f"  server {state:4}: call {statistics.median(inside):.2f} ms, longest {max(inside):.1f} ms; ",
                    end="",
                )
                print(f"from call to call {statistics.median(between):.1f} ms, longest {max(between):.1f} ms")

    def check(self) -> None:
        """The server has every row once, and the step asked nothing of the network."""
        rows, statuses = self.seen()
        assert rows == self.said()
        assert statuses == {"tick-1": "FINISHED", "tick": "FINISHED"}
        made = Store(self.store).newest("tick")
        assert made is not None
        assert made.metrics["network_calls"] == 0


def test_a_step_never_notices_that_no_server_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts of a database it is given without a place for them
    run = Ticking(tmp_path, linger_s=0.0)
    run.start()
    time.sleep(1.0)
    run.end()
    run.show_pauses("no server at all", [(0.0, time.time())])
    until(run.given_up)
    replay(run.folder, TrackingConfig(uri=f"sqlite:///{mlflow_folder(run.served) / 'mlflow.db'}"), run.store)
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize("outage_s", [10.0, 300.0])
def test_a_server_that_is_killed_and_comes_back_has_every_row_once(tmp_path: Path, outage_s: float) -> None:
    run = Ticking(tmp_path)
    with run.up():
        run.start()
        run.caught_up()
    killed = time.time()
    time.sleep(outage_s)
    with run.up():
        back = time.time()
        run.caught_up()
        print(f"\ncaught up {time.time() - back:.0f} s after the server answered")
        run.end()
        until(run.complete)
    run.show_pauses(f"{outage_s:.0f} s without a server", [(killed, back)])
    run.check()


@pytest.mark.slow
def test_a_server_that_is_killed_for_good_costs_a_replay_and_no_row(tmp_path: Path) -> None:
    run = Ticking(tmp_path, linger_s=2.0)
    with run.up():
        run.start()
        run.caught_up()
    killed = time.time()
    time.sleep(3.0)
    run.end()
    run.show_pauses("killed for good", [(killed, time.time())])
    until(run.given_up)
    assert run.seen()[1] == {"tick-1": "RUNNING", "tick": "RUNNING"}
    with run.up():
        for _ in range(2):
            replay(run.folder, run.config, run.store)
    run.check()
