"""A Ray head of its own, and further nodes, for tests that kill them: small, no dashboard, ended by process id."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.context import free_port

START_DEADLINE_S = 60.0
NODE_DEADLINE_S = 180.0


@dataclass
class Head:
    """A running head node."""

    address: str
    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends every process of the head at once, by process id; agents are known only as children's children."""
        family = _family(self.process)
        self.process.kill()
        self.process.wait()
        for process in {*family, *processes_of(self.folder)}:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextmanager
def ray_head(num_cpus: int = 2, port: int | None = None, token: str | None = None, node_ip: str = "") -> Iterator[Head]:
    """Starts a head with a token of its own, and ends all that it started."""
    folder = Path("/tmp") / f"hw-{secrets.token_hex(3)}"
    port = port or port_above_workers()
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or secrets.token_hex(32)}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0"}
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "start", "--head", "--block", f"--port={port}", f"--num-cpus={num_cpus}", f"--temp-dir={folder}"]
    words += ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    words += [f"--ray-client-server-port={port_above_workers()}"]
    words += [f"--node-ip-address={node_ip}"] if node_ip else []
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        words, env={**os.environ, **environment}, stdout=quiet, stderr=quiet, start_new_session=True
    )
    head = Head(f"{node_ip or '127.0.0.1'}:{port}", environment, folder, process)
    try:
        _wait_for(node_ip or "127.0.0.1", port, process)
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


def _family(process: subprocess.Popen[bytes]) -> list[int]:
    """Ids of all that a process has started, and of what those have."""
    if process.poll() is not None:
        return []
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


def port_above_workers() -> int:
    """A free port outside the range that Ray's workers take theirs from."""
    while (port := free_port()) < 20_000:
        continue
    return port


@dataclass
class Node:
    """A further node of a head's cluster."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends every process of the node at once, as a machine that loses its power would."""
        for process in (*_family(self.process), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


@contextmanager
def ray_node(head: Head, num_cpus: int = 1, prefix: Sequence[str] = (), node_ip: str = "") -> Iterator[Node]:
    """Joins a node to a head's cluster, and ends it. Nodes that start at the same moment take each other's ports.

    Args:
        head: The head.
        num_cpus: Cores of the node.
        prefix: Words to put before the command, such as those that enter a network namespace.
        node_ip: Its address; Ray's own choice where empty.
    """
    ray = str(Path(sys.executable).with_name("ray"))
    words = [*prefix, ray, "start", "--block", f"--address={head.address}", f"--num-cpus={num_cpus}"]
    words += ["--object-store-memory=100000000", "--disable-usage-stats"]
    words += [f"--node-ip-address={node_ip}"] if node_ip else []
    said = head.folder / f"node-{secrets.token_hex(3)}.txt"
    environment = {**os.environ, **head.environment}
    with said.open("w") as out:
        node = Node(subprocess.Popen(words, env=environment, stdout=out, stderr=out, start_new_session=True))
    try:
        deadline = time.monotonic() + NODE_DEADLINE_S
        while "Ray runtime started" not in said.read_text():
            assert node.process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, f"the node did not start in time: {said.read_text()}"
            time.sleep(0.1)
        yield node
    finally:
        node.kill()


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head ended"
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise AssertionError("the head did not start in time")
