"""The corpus is the same bytes however it came about: with any number of workers, order of the input, or kills.

Digests are those in the manifests of every step from the extracted documents to the plan of training rows.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.engine.store import Store

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("extract", "score", "sketch", "clean", "dedup", "tokenizer", "tokens", "pack", "card")
INPROCESS = ("cluster=inprocess", "cluster.lease_s=3")


def words_of(store: Path, *words: str) -> list[str]:
    return ["run", "recipe=data", "preset=micro", "tracking=off", f"store={store}", *words]


def start(store: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.cli", *words_of(store, *words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def digests(store: Path) -> dict[str, str]:
    """Content digest of the one artifact of each step."""
    opened = Store(store)
    found = {step: list(opened.manifests(step)) for step in STEPS}
    assert {step: len(made) for step, made in found.items()} == dict.fromkeys(STEPS, 1)
    return {step: made[0].content for step, made in found.items()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample site, crawled once."""
    folder = tmp_path_factory.mktemp("archives")
    store = folder / "store"
    assert main(words_of(store, *INPROCESS, "--until", "crawl")) == 0
    [made] = Store(store).manifests("crawl")
    shutil.copytree(Store(store).fetch(made) / "warc", folder / "warc")
    return folder / "warc"


@pytest.fixture(scope="module")
def undisturbed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("undisturbed")
    assert main(words_of(store, *INPROCESS, *source(archives))) == 0
    return digests(store)


def source(*paths: Path) -> tuple[str, str]:
    return "source=warc", f"source.paths=[{','.join(map(str, paths))}]"


def members(path: Path) -> Iterator[bytes]:
    """The gzip members of a file: one WARC record each."""
    rest = path.read_bytes()
    while rest:
        unpacker = zlib.decompressobj(wbits=31)
        unpacker.decompress(rest)
        yield rest[: len(rest) - len(unpacker.unused_data)]
        rest = unpacker.unused_data


def test_the_order_and_place_of_the_input_do_not_matter(
    archives: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    records = [record for path in archives.glob("*.warc.gz") for record in members(path)]
    random.Random(5).shuffle(records)
    moved = [tmp_path / folder / "some.warc.gz" for folder in "cab"]
    for number, path in enumerate(moved):
        path.parent.mkdir()
        path.write_bytes(b"".join(records[number::3]))
    assert main(words_of(tmp_path / "store", *INPROCESS, *source(*moved))) == 0
    assert digests(tmp_path / "store") == undisturbed


def killed(store: Path, archives: Path, kills: int, seed: int) -> int:
    """Runs the recipe, killing it at random moments; returns how often it was killed before it ended."""
    order = random.Random(seed)
    for done in range(kills):
        running = start(store, *INPROCESS, *source(archives))
        try:
            assert running.wait(timeout=order.uniform(1.5, 5.0)) == 0
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
        else:
            return done
    assert main(words_of(store, *INPROCESS, *source(archives))) == 0
    return kills


def test_kills_leave_no_trace(archives: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    assert killed(tmp_path, archives, kills=2, seed=1) > 0
    assert digests(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_leave_no_trace(archives: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    total = 0
    for attempt in range(20):
        store = tmp_path / f"{attempt}"
        total += killed(store, archives, kills=20 - total, seed=attempt)
        assert digests(store) == undisturbed
        if total >= 20:
            break
    print(f"killed {total} times in {attempt + 1} runs; the digests are those of the undisturbed run")
    assert total >= 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_on_ray_does_not_matter(
    archives: Path, undisturbed: dict[str, str], tmp_path: Path, workers: int
) -> None:
    ray = ("cluster=local", f"cluster.num_cpus={workers}", "cluster.object_store_mib=128")
    assert start(tmp_path, *ray, *source(archives)).wait() == 0
    assert digests(tmp_path) == undisturbed
