"""The UI is for this machine alone unless the user says otherwise."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from components.errors import ConfigError, MachineError
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.ui import is_loopback, run_ui, server_command


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="--allow-public"):
        run_ui(tmp_path, TrackingConfig(), 5000, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_known_in_all_its_spellings(host: str) -> None:
    assert is_loopback(host)


def test_a_port_that_is_taken_is_named_with_the_next_one(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"--port {port + 1}"):
            run_ui(tmp_path, TrackingConfig(), port)


def test_the_server_runs_one_worker_no_jobs_no_pickle_and_no_telemetry(tmp_path: Path) -> None:
    command, environment = server_command(tmp_path, TrackingConfig(), "127.0.0.1", 5000)
    assert command[command.index("--workers") + 1] == "1"
    assert "127.0.0.1" in command[command.index("--allowed-hosts") + 1]
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_password_in_the_address_is_not_on_the_command_line(tmp_path: Path) -> None:
    config = TrackingConfig(uri="postgresql://me:hunter2@db/mlflow")
    command, environment = server_command(tmp_path, config, "127.0.0.1", 5000)
    assert "hunter2" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == config.uri


def test_a_server_elsewhere_is_only_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ui(tmp_path, TrackingConfig(uri="https://mlflow.example.org"), 5000) == 0
    assert "https://mlflow.example.org" in capsys.readouterr().out


SERVE = """
import sys
from pathlib import Path
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.ui import run_ui
sys.exit(run_ui(Path(sys.argv[1]), TrackingConfig(), int(sys.argv[2])))
"""


def status(port: int, headers: dict[str, str]) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_server_answers_here_refuses_foreign_hosts_and_ends_on_request(store: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(store), str(port)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert f"http://127.0.0.1:{port}" in server.stdout.readline().decode()
    assert status(port, {}) == 200
    assert status(port, {"Host": "evil.example"}) == 403
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait(30) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
