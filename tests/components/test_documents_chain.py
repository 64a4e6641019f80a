"""From pages to unique documents: processes instead of a loop change no byte, and nothing is lost on the way."""

from __future__ import annotations

import io
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from components.clean.config import CleanConfig
from components.clean.step import clean
from components.context import LocalContext, local_context
from components.dedup.config import DedupConfig
from components.dedup.step import dedup
from components.extract.config import ExtractConfig
from components.extract.step import extract
from components.publish import read_json
from components.score.config import ScoreConfig
from components.score.step import score
from components.sketch.config import SketchConfig
from components.sketch.step import sketch

STEPS = ("extract", "score", "clean", "sketch", "dedup")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PoolContext(LocalContext):
    """A context whose map runs in spawned processes, as a cluster's workers are: nothing is inherited."""

    pool: ProcessPoolExecutor | None = None

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        assert self.pool is not None
        return list(self.pool.map(fn, items))


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """Ninety pages in two languages: stories, their copies, junk and missing ones."""
    folder = tmp_path / "crawl" / "warc"
    folder.mkdir(parents=True)
    with (folder / "pages-00001.warc.gz").open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number in range(90):
            story = number % 60
            english = f"In house {story} of the lower street the water stood {story * 7} inches high. Nobody was hurt, "
            english += f"but {story + 3} chairs and the clock of {1800 + story * 3} had to be dried in the sun."
            chinese = f"下街{story}号的水有{story * 7}寸深，没有人受伤，"
            chinese += f"不过{story + 3}把椅子和{1800 + story}年的老钟都要搬到院子里晒干。"
            text = "buy now " * 60 if story % 20 == 0 else english if story % 2 else chinese
            html = f"<html><body><nav><a href=/>Home</a></nav><h1>House {story}</h1><p>{text}</p></body></html>"
            status = "404 Not Found" if number % 30 == 7 else "200 OK"
            head = StatusAndHeaders(status, [("Content-Type", "text/html")], protocol="HTTP/1.1")
            body = io.BytesIO(html.encode())
            url = f"http://example.org/{number}"
            writer.write_record(writer.create_warc_record(url, "response", body, http_headers=head))
    return folder.parent


def chain(folder: Path, crawl: Path, make: Callable[[str, Path], LocalContext]) -> Path:
    extracted, scored, cleaned, sketched, unique = (make(name, folder / name) for name in STEPS)
    extract(extracted, ExtractConfig(shards=5, wave_pages=64), pages=crawl)
    score(scored, ScoreConfig(), documents=extracted.output)
    clean(cleaned, CleanConfig(), documents=scored.output)
    sketch(sketched, SketchConfig(), documents=scored.output)
    dedup(unique, DedupConfig(), documents=cleaned.output, sketches=sketched.output)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("output/**/*.*"))}


def test_processes_give_the_bytes_that_a_loop_gives(tmp_path: Path, crawl: Path, pool: ProcessPoolExecutor) -> None:
    def pooled(step: str, folder: Path) -> PoolContext:
        plain = local_context(step, folder)
        return PoolContext(plain.step, plain.output, plain.scratch, plain.channel, pool=pool)

    alone = bytes_of(chain(tmp_path / "loop", crawl, local_context))
    assert {name.split("/")[0] for name in alone} == set(STEPS)
    assert bytes_of(chain(tmp_path / "pool", crawl, pooled)) == alone


def test_each_step_reads_what_the_one_before_kept(tmp_path: Path, crawl: Path) -> None:
    folder = chain(tmp_path, crawl, local_context)
    summaries = [read_json(folder / name / "output" / "summary.json") for name in STEPS if name != "sketch"]
    assert summaries[0]["read"] == 90
    for before, after in itertools.pairwise(summaries):
        assert after["read"] == before["kept"]
    for summary in summaries:
        dropped = summary["dropped"]
        assert isinstance(dropped, dict)
        assert summary["read"] == summary["kept"] + sum(dropped.values())
    assert [bool(summary["dropped"]) for summary in summaries] == [True, False, True, True]
