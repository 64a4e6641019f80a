"""The suite's own promise: neither a test nor a process that it starts reaches beyond this machine."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

CONNECT = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"


def test_a_test_cannot_connect_to_another_machine() -> None:
    with pytest.raises(OSError, match=r"may not connect to 192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_a_test_cannot_look_up_a_name() -> None:
    with pytest.raises(socket.gaierror, match="may not look up"):
        socket.getaddrinfo("example.org", 80)


def test_a_process_that_a_test_starts_cannot_either() -> None:
    done = subprocess.run([sys.executable, "-c", CONNECT], capture_output=True, text=True)
    assert done.returncode == 1
    assert "may not connect to 192.0.2.1" in done.stderr


def test_this_machine_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()[:2], timeout=5).close()
