"""A Ray head of its own for tests that kill drivers or the head: small, without a dashboard, ended by process id."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.context import free_port

START_DEADLINE_S = 60.0


@dataclass
class Head:
    """A running head node."""

    address: str
    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends every process of the head at once, by process id."""
        self.process.kill()
        self.process.wait()
        for process in processes_of(self.folder):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue


@contextmanager
def ray_head(num_cpus: int = 2, port: int | None = None, token: str | None = None) -> Iterator[Head]:
    """Starts a head with a token of its own, and ends all that it started."""
    folder = Path("/tmp") / f"hw-{secrets.token_hex(3)}"
    port = port or port_above_workers()
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or secrets.token_hex(32)}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "start", "--head", "--block", f"--port={port}", f"--num-cpus={num_cpus}", f"--temp-dir={folder}"]
    words += ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    words += [f"--ray-client-server-port={port_above_workers()}"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        words, env={**os.environ, **environment}, stdout=quiet, stderr=quiet, start_new_session=True
    )
    head = Head(f"127.0.0.1:{port}", environment, folder, process)
    try:
        _wait_for(port, process)
        yield head
    finally:
        head.kill()
        shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> list[int]:
    """Ids of all processes that have the folder in their command or environment: the head's, and its workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                if str(folder).encode() in (process / name).read_bytes():
                    found.append(int(process.name))
                    break
            except OSError:
                continue
    return found


def port_above_workers() -> int:
    """A free port outside the range that Ray's workers take theirs from."""
    while (port := free_port()) < 20_000:
        continue
    return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise AssertionError("the head did not start in time")
