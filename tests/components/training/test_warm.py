"""How DeepSpeed starts: without a compiler, without what it does not need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STARTED = """
import sys
from components.training.warm import warm_deepspeed
print(f"{warm_deepspeed():.1f} s")
print(sorted({"mlflow", "pandas", "scipy", "torch._inductor.compile_fx"} & set(sys.modules)))
import mlflow
print(mlflow.__name__)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A process that started DeepSpeed with no compiler on its path, and its extension cache."""
    folder = tmp_path_factory.mktemp("bare")
    cache = folder / "cache"
    bare = {**os.environ, "PATH": str(folder), "TORCH_EXTENSIONS_DIR": str(cache)}
    command = [sys.executable, "-c", STARTED]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=False, timeout=300), cache


def test_it_starts_without_a_compiler_and_compiles_nothing(started):
    done, cache = started
    assert done.returncode == 0, done.stderr
    assert not cache.exists()


def test_it_starts_without_inductor_and_the_tracker_which_can_still_be_imported_after(started):
    done, _ = started
    assert done.stdout.splitlines()[1:] == ["[]", "mlflow"], done.stderr
