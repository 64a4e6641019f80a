"""Writers are killed at every operation, disks are full and read-only: no reader sees a part of an artifact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fault_help
import pytest

ENOUGH = {"commit": 30, "rebuild": 30, "discard": 10, "alias": 10, "adopt": 30, "gc": 20}
"""Fewest operations a scenario has; with less the harness has lost sight of them."""


def operations_of(scenario: str, fault: str, url: str, workspace: Path) -> int:
    """Meets the fault at every operation; the number of them."""
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(Path.cwd())])
    command = [sys.executable, fault_help.__file__, scenario, fault, url, str(workspace)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.parametrize("scenario", list(fault_help.SCENARIOS))
def test_a_writer_killed_at_any_operation_leaves_all_or_nothing_and_the_next_run_makes_the_same(
    scenario: str, tmp_path: Path
):
    assert operations_of(scenario, "kill", str(tmp_path / "store"), tmp_path / "store") >= ENOUGH[scenario]


@pytest.mark.parametrize("scenario", ["commit", "alias"])
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_fails_at_any_operation_is_told_in_a_sentence(scenario: str, fault: str, tmp_path: Path):
    assert operations_of(scenario, fault, str(tmp_path / "store"), tmp_path / "store") >= ENOUGH[scenario] // 2


@pytest.mark.parametrize(
    "scenario",
    ["commit", *(pytest.param(name, marks=pytest.mark.slow) for name in fault_help.SCENARIOS if name != "commit")],
)
def test_in_s3_a_writer_killed_at_any_request_leaves_all_or_nothing(scenario: str, s3_url: str, tmp_path: Path):
    assert operations_of(scenario, "kill", s3_url, tmp_path) >= 5
