"""How fast archives and files are read: WARC files beside warcio, rows of JSONL beside the `json` module alone.

CPU time of one thread, the peers in turn, the best of five. Prints ratios; only the work itself is checked.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from components.crawl.warc_read import read_file
from components.ingest.config import IngestFilesConfig
from components.ingest.convert import Mapper
from components.ingest.rows import Piece, read_rows
from components.ingest.sources import find_sources

NUM_PAGES = 2_000
NUM_ROWS = 4_000
ROUNDS = 5


def best_of_each(*works: Callable[[], int]) -> list[float]:
    """Least CPU seconds of each, in turn."""
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for number, work in enumerate(works):
            started = time.process_time()
            assert work() > 0
            best[number] = min(best[number], time.process_time() - started)
    return best


def _words() -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(5_000)]


@pytest.mark.bench
def test_pages_of_an_archive_a_second(tmp_path: Path):
    draw, words = random.Random(1), _words()
    path = tmp_path / "a.warc.gz"
    with path.open("wb") as file:
        for number in range(NUM_PAGES):
            paragraphs = (f"<p class=x>{' '.join(draw.choices(words, k=40))}</p>" for _ in range(draw.randint(20, 150)))
            record = io.BytesIO()
            writer = WARCWriter(record, gzip=False)
            fields = [("Content-Type", "text/html"), ("Server", "x"), ("Date", "x"), ("ETag", "x"), ("X-Y", "z")]
            head = StatusAndHeaders("200 OK", fields, protocol="HTTP/1.1")
            body = io.BytesIO(f"<html><body>{''.join(paragraphs)}".encode())
            url = f"http://e.com/{number}"
            writer.write_record(writer.create_warc_record(url, "response", payload=body, http_headers=head))
            file.write(gzip.compress(record.getvalue(), 1))

    def ours() -> int:
        return sum(len(page.payload) for page in read_file(path))

    def warcio() -> int:
        with path.open("rb") as file:
            return sum(len(record.raw_stream.read()) for record in ArchiveIterator(file))

    assert ours() == warcio()
    mine, peer = best_of_each(ours, warcio)
    rates = [NUM_PAGES / mine, ours() / 1e6 / mine, NUM_PAGES / peer]
    print(f"\nWARC: {rates[0]:.0f} pages/s, {rates[1]:.0f} MB/s; warcio {rates[2]:.0f} pages/s; {peer / mine:.2f}x")


@pytest.mark.bench
def test_rows_of_a_table_a_second(tmp_path: Path):
    draw, words = random.Random(1), _words()
    path = tmp_path / "a.jsonl"
    rows = [{"text": " ".join(draw.choices(words, k=350)), "url": f"http://e.com/{n}"} for n in range(NUM_ROWS)]
    path.write_text("\n".join(map(json.dumps, rows)))
    (source,) = find_sources([str(path)], "files")

    def ours(lang: str) -> int:
        mapper = Mapper(IngestFilesConfig(lang=lang))
        found = read_rows(Piece(source), mapper.columns, "file", 1 << 24)
        return len([mapper.document(row, source.name) for row in found])

    def plain() -> int:
        with path.open("rb") as file:
            return len([json.loads(line) for line in file])

    stated, detected, peer = best_of_each(lambda: ours("en"), lambda: ours(""), plain)
    rates = [NUM_ROWS / seconds for seconds in (stated, detected, peer)]
    print(
        f"\nJSONL: {rates[0]:.0f} documents/s, {rates[1]:.0f} with the language found; json alone {rates[2]:.0f} rows/s"
    )
