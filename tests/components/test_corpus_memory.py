"""Ten times the documents take at most a fifth more memory, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "support" / "memory_help.py"
SIZES = (2_000, 20_000)
MEGABYTES = (2, 20)
ENGLISH_MEGABYTES = (4, 40)
"""Of ordinary text, from where the helper's table of 0.5 MB is full; the default table of 1.5 MB is at some 20 MB."""
ROWS = (6000, 60_000)
PAGES = (300, 3000)


def call(*arguments: str | Path | int) -> str:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=500).stdout


def made(verb: str, sizes: tuple[int, ...], factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder with the documents of each size."""
    folders = {size: factory.mktemp(f"{verb}-{size}") for size in sizes}
    for size, folder in folders.items():
        call(verb, folder, size)
    return folders


def assert_flat(step: str, folders: dict[int, Path], unit: str) -> None:
    """A step over the larger of two corpora peaks at most a fifth above the smaller, which is a tenth of it."""
    (few, small), (many, large) = ((size, float(call(step, folder))) for size, folder in folders.items())
    print(f"{step}: {small:.0f} MB for {few:,} {unit}, {large:.0f} MB for {many:,}: {large / small:.2f}")
    assert many == 10 * few
    assert large <= 1.2 * small


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return made("make", SIZES, tmp_path_factory)


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Every document has words that no other has."""
    return made("grow", MEGABYTES, tmp_path_factory)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return made("english", ENGLISH_MEGABYTES, tmp_path_factory)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return made("archive", ROWS, tmp_path_factory)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return made("site", PAGES, tmp_path_factory)


@pytest.mark.slow
def test_peak_memory_does_not_go_with_the_corpus(corpora: dict[int, Path]) -> None:
    for step in ("score", "quality", "clean", "sketch", "dedup", "decontaminate", "card"):
        assert_flat(step, corpora, "documents")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["count", "bpe", "wordpiece", "unigram", "word", "character"])
def test_peak_memory_of_the_tokenizer_does_not_go_with_the_vocabulary(growing: dict[int, Path], step: str) -> None:
    assert_flat(step, growing, "MB of text")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["count", "bpe", "unigram"])
def test_peak_memory_of_the_tokenizer_does_not_go_with_ordinary_english(ordinary: dict[int, Path], step: str) -> None:
    assert_flat(step, ordinary, "MB of English")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["ingest_files", "ingest_warc"])
def test_peak_memory_of_ingest_does_not_go_with_the_archive(archives: dict[int, Path], step: str) -> None:
    assert_flat(step, archives, "rows")


@pytest.mark.slow
def test_peak_memory_of_the_crawl_does_not_go_with_the_site(sites: dict[int, Path]) -> None:
    assert_flat("crawl", sites, "pages")
