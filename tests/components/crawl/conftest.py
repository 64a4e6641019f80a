"""Websites to crawl: a small sample site, and sites made by hand for one test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.context import LocalContext, local_context
from components.crawl.config import CrawlConfig
from components.crawl.step import crawl
from components.crawl.warc_read import Page, read_pages
from components.sample.config import SampleConfig
from components.sample.step import site

MakeSite = Callable[..., Path]
Crawl = Callable[..., LocalContext]


@pytest.fixture(scope="session")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample site of some fifty pages."""
    config = SampleConfig(
        conversations=30,
        conversations_per_page=2,
        questions=60,
        questions_per_page=20,
        articles=6,
        digests=1,
        reviews=30,
        reviews_per_page=15,
        list_size=10,
        duplicates=2,
        near_duplicates=2,
        junk=1,
        private=2,
        slow_s=0.2,
    )
    context = local_context("site", tmp_path_factory.mktemp("site"), config.seed)
    site(context, config)
    return context.output


@pytest.fixture
def make_site(tmp_path: Path) -> MakeSite:
    """Makes a site artifact out of {path: content} and behaviours."""

    def make(pages: dict[str, str | bytes], behaviours: dict[str, object] | None = None) -> Path:
        folder = tmp_path / "made-site"
        for path, content in pages.items():
            target = folder / "www" / (path.lstrip("/") + ("index.html" if path.endswith("/") else ""))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        (folder / "behaviours.json").write_text(json.dumps(behaviours or {}))
        (folder / "summary.json").write_text(json.dumps({"host": "sample.headwater.test"}))
        return folder

    return make


@pytest.fixture
def run_crawl(tmp_path: Path) -> Crawl:
    """Crawls a site under the sample host without any gap; keyword arguments change the config."""

    def run(site: Path | None, **changes: object) -> LocalContext:
        settings = {"delay_s": 0.0, "backoff_s": 0.01, **changes}
        context = local_context("crawl", tmp_path / "crawl")
        crawl(context, CrawlConfig(**settings), site=site)  # type: ignore[arg-type]
        return context

    return run


@pytest.fixture
def pages_of() -> Callable[[LocalContext], dict[str, Page]]:
    """Pages of a finished crawl by path; fails if one is there twice."""

    def read(context: LocalContext) -> dict[str, Page]:
        pages: dict[str, Page] = {}
        for page in read_pages(context.output / "warc"):
            path = "/" + page.url.split("/", 3)[3]
            assert path not in pages
            pages[path] = page
        return pages

    return read


@pytest.fixture
def fates() -> Callable[[LocalContext], dict[str, str]]:
    """What became of each URL of a finished crawl, by path (whole URL for other hosts): "state reason"."""

    def read(context: LocalContext) -> dict[str, str]:
        import sqlite3

        with sqlite3.connect(context.output / "frontier.sqlite") as database:
            rows = database.execute("SELECT url, state, reason FROM urls").fetchall()
        return {url.removeprefix("http://sample.headwater.test"): f"{state} {why}".strip() for url, state, why in rows}

    return read
