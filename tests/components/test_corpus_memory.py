"""Ten times the documents take at most a fifth more memory, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "memory_help.py"
SIZES = (2_000, 20_000)
MEGABYTES = (2, 20)


def call(*arguments: str | Path | int) -> str:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=500).stdout


def made(verb: str, sizes: tuple[int, ...], factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder with the documents of each size."""
    folders = {size: factory.mktemp(f"{verb}-{size}") for size in sizes}
    for size, folder in folders.items():
        call(verb, folder, size)
    return folders


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return made("make", SIZES, tmp_path_factory)


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Every document has words that no other has."""
    return made("grow", MEGABYTES, tmp_path_factory)


@pytest.mark.slow
def test_peak_memory_does_not_go_with_the_corpus(corpora: dict[int, Path]) -> None:
    for step in ("score", "quality", "clean", "sketch", "dedup", "decontaminate"):
        small, large = (float(call(step, corpora[size])) for size in SIZES)
        print(f"{step}: {small:.0f} MB for {SIZES[0]:,} documents, {large:.0f} MB for {SIZES[1]:,}")
        assert large <= 1.2 * small


@pytest.mark.slow
@pytest.mark.parametrize("step", ["count", "bpe", "wordpiece", "unigram", "word", "character"])
def test_peak_memory_of_the_tokenizer_does_not_go_with_the_vocabulary(growing: dict[int, Path], step: str) -> None:
    small, large = (float(call(step, growing[size])) for size in MEGABYTES)
    print(f"{step}: {small:.0f} MB for {MEGABYTES[0]} MB of text, {large:.0f} MB for {MEGABYTES[1]}")
    assert large <= 1.2 * small
