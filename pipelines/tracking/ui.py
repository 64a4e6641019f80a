"""`headwater ui`: the MLflow server on the embedded store, small and closed.

One worker and no job executor: half the start-up time and a third of the memory of MLflow's defaults, and no endpoint
that runs code. It listens on loopback and answers only to loopback names; MLflow itself has no password here, so any
other address needs an explicit word from the user.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from components.errors import ConfigError, MachineError
from pipelines.tracking.client import ENVIRONMENT
from pipelines.tracking.config import TrackingConfig, mlflow_folder, tracking_uri
from pipelines.tracking.reaper import reap
from pipelines.tracking.schema import ARTIFACTS, ensure_database

START_WITHIN_S = 120.0
LOOPBACK_NAMES = "localhost,localhost:*,127.0.0.1,127.0.0.1:*,[::1],[::1]:*"


def run_ui(store: Path, config: TrackingConfig, port: int, host: str = "127.0.0.1", allow_public: bool = False) -> int:
    """Serves the MLflow UI until it is interrupted.

    Args:
        store: Root folder of the store.
        config: Where runs are tracked; a server elsewhere is only named.
        port: TCP port.
        host: Address to listen on.
        allow_public: Allow an address that other machines can reach.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the address is not loopback and that was not allowed.
        MachineError: If the port is taken or the server does not start.
    """
    if config.uri is not None and config.uri.startswith("http"):
        print(f"runs are tracked at {config.uri}")
        return 0
    require_loopback(host, allow_public)
    _require_free(host, port)
    if config.uri is None:
        ensure_database(mlflow_folder(store))
        reap(store, config)
    command, environment = server_command(store, config, host, port)
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_healthy(server, host, port)
        print(f"MLflow UI: http://{_shown(host)}:{port}/#/experiments   (Ctrl-C ends it)", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        _end(server)


def server_command(store: Path, config: TrackingConfig, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The server's command line and environment; an address may hold a password, so it is not on the line."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    if is_loopback(host):
        command += ["--allowed-hosts", LOOPBACK_NAMES]
    environment = (
        os.environ
        | ENVIRONMENT
        | {
            "MLFLOW_BACKEND_STORE_URI": tracking_uri(config, store),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": (mlflow_folder(store) / ARTIFACTS).resolve().as_uri(),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
    )
    return command, environment


def is_loopback(host: str) -> bool:
    """Tells whether an address reaches this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_loopback(host: str, allow_public: bool) -> None:
    """Refuses an address that other machines can reach, unless that was asked for."""
    if not allow_public and not is_loopback(host):
        raise ConfigError(
            f"--host {host} would show every run to whoever reaches this machine: the UI has no password.",
            where=f"--host {host}",
            fix="leave --host out and use an SSH tunnel, or add --allow-public",
        )


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fix = f"headwater ui --port {port + 1}"
            raise MachineError(f"port {port} on {host} cannot be used: {error.strerror}.", "--port", fix) from error


def _wait_healthy(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{_shown(host)}:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise MachineError("the MLflow server did not start.", "headwater ui", "read what it printed above")


def _shown(host: str) -> str:
    """The address as a browser on this machine takes it."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
