"""How DeepSpeed starts: without a compiler, without what it does not need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STARTED = """
import sys
from components.training.warm import warm_deepspeed
warm_deepspeed()
print(sorted({"mlflow", "pandas", "scipy"} & set(sys.modules)))
import mlflow
print(mlflow.__name__)
"""


@pytest.fixture
def no_compiler(tmp_path) -> dict[str, str]:
    """An environment with an empty extension cache and no compiler on its path."""
    return {**os.environ, "PATH": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}


def test_it_starts_without_a_compiler_and_compiles_nothing(no_compiler, tmp_path):
    command = [sys.executable, "-m", "components.training.warm"]
    done = subprocess.run(command, env=no_compiler, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DeepSpeed is ready")
    assert not (tmp_path / "cache").exists()


def test_it_starts_without_the_tracker_which_can_still_be_imported_after(no_compiler):
    command = [sys.executable, "-c", STARTED]
    done = subprocess.run(command, env=no_compiler, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.splitlines() == ["[]", "mlflow"], done.stderr
