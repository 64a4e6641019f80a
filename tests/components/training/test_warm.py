"""The set-up of DeepSpeed's CPU collective."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.cpp_extension import _get_build_directory

from components.training.warm import OPERATION, warm_deepspeed


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """A copy of the warm cache for a process of its own."""
    warm_deepspeed()
    shutil.copytree(_get_build_directory(OPERATION, verbose=False), tmp_path / OPERATION)
    return {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)}


def warm(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.training.warm"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_lock_of_a_killed_compilation_is_removed(environment):
    """With the lock left there, torch waits for ever and the subprocess runs into its deadline."""
    lock = Path(environment["TORCH_EXTENSIONS_DIR"]) / OPERATION / "lock"
    lock.touch()
    done = warm(environment)
    assert done.returncode == 0, done.stderr
    assert "DeepSpeed is ready" in done.stdout
    assert not lock.exists()
