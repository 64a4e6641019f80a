"""Ten times the documents take at most a fifth more memory, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "memory_help.py"
SIZES = (2_000, 20_000)


def call(*arguments: str | Path | int) -> str:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=500).stdout


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder with the documents of each size."""
    folders = {size: tmp_path_factory.mktemp(f"corpus-{size}") for size in SIZES}
    for size, folder in folders.items():
        call("make", folder, size)
    return folders


@pytest.mark.slow
def test_peak_memory_does_not_go_with_the_corpus(corpora: dict[int, Path]) -> None:
    for step in ("score", "clean", "sketch", "dedup", "decontaminate"):
        small, large = (float(call(step, corpora[size])) for size in SIZES)
        print(f"{step}: {small:.0f} MB for {SIZES[0]:,} documents, {large:.0f} MB for {SIZES[1]:,}")
        assert large <= 1.2 * small
