"""A lease has one holder, and dies with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.engine.lock import hold_shared, is_held, try_lock

HOLDER = """
import sys, time
from pathlib import Path
from pipelines.engine.lock import try_lock
with try_lock(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "leases" / "clean.lock"


def test_a_free_lease_is_given_and_a_held_one_is_not(lock: Path):
    with try_lock(lock) as first:
        assert first
        with try_lock(lock) as second:
            assert not second
        assert is_held(lock)
    assert not is_held(lock)
    with try_lock(lock) as again:
        assert again


def test_the_kernel_frees_the_lease_of_a_killed_holder(lock: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert is_held(lock)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not is_held(lock)


def test_a_lease_nobody_ever_took_is_free(lock: Path):
    assert not is_held(lock)


def test_shared_holders_keep_the_lease_from_being_taken(lock: Path):
    with hold_shared(lock), hold_shared(lock), try_lock(lock) as mine:
        assert not mine
    with try_lock(lock) as mine:
        assert mine
