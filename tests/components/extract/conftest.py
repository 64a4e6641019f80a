"""WARC files out of pages that a test makes up."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from components.crawl.warc_read import Page

MakeCrawl = Callable[[Sequence[Page]], Path]


@pytest.fixture
def make_crawl(tmp_path: Path) -> MakeCrawl:
    """Writes pages as a crawl artifact, ten to a WARC file, in the order given."""
    made: list[Path] = []

    def make(pages: Sequence[Page]) -> Path:
        artifact = tmp_path / f"crawl-{len(made)}"
        made.append(artifact)
        (artifact / "warc").mkdir(parents=True)
        for start in range(0, len(pages), 10):
            with (artifact / "warc" / f"pages-{start:05d}.warc.gz").open("wb") as file:
                writer = WARCWriter(file, gzip=True)
                for page in pages[start : start + 10]:
                    head = StatusAndHeaders(f"{page.status} Said", list(page.headers.items()), protocol="HTTP/1.1")
                    body = io.BytesIO(page.payload)
                    writer.write_record(writer.create_warc_record(page.url, "response", body, http_headers=head))
        return artifact

    return make
