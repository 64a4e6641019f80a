"""A real site: Debian's reference and LibreOffice's help in English and Chinese, out of their packages, on loopback.

What may be reached is worked out beside the crawler by other means (the standard library's HTML parser and URL
joining), so neither can be wrong unseen. Needs `apt-get` and `dpkg`; nothing is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from site_server import Site, folder_of_pages, serve_site

from components.context import Metrics, local_context
from components.crawl.config import CrawlConfig, RecrawlConfig
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages
from components.publish import read_json

PACKAGES = (
    *("debian-reference-common", "debian-reference-en", "debian-reference-zh-cn"),
    *("libreoffice-help-common", "libreoffice-help-en-us", "libreoffice-help-zh-cn"),
)
ROBOTS = b"User-agent: *\nDisallow: /libreoffice/help/en-US/text/sbasic/\nDisallow: /debian-reference/apa\n"
FORBIDDEN = ("/libreoffice/help/en-US/text/sbasic/", "/debian-reference/apa")
FRONT = "".join(
    f'<p><a href="/{path}">{path}</a>'
    for path in (
        *("debian-reference/index.en.html", "debian-reference/index.zh-cn.html"),
        *("libreoffice/help/en-US/text/swriter/main0000.html", "libreoffice/help/zh-CN/text/swriter/main0000.html"),
    )
)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The packages' pages by path."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("there is no apt-get here to get Debian's documentation with")
    folder = tmp_path_factory.mktemp("debian")
    found = subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"apt-get cannot get Debian's documentation: {found.stderr.strip()[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    pages = folder_of_pages(folder / "root/usr/share")
    pages = {path: body for path, body in pages.items() if path.startswith(("/debian-reference/", "/libreoffice/"))}
    return {**pages, "/": f"<!DOCTYPE html><title>Front</title>{FRONT}".encode(), "/robots.txt": ROBOTS}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        key = {"a": "href", "area": "href", "iframe": "src"}.get(tag, "")
        if tag == "base" and not self.base:
            self.base = str(values.get("href") or "")
        if tag == "link" and values.get("rel") == "next":
            key = "href"
        if key and values.get(key):
            self.found.append(str(values[key]))


def _reachable(pages: dict[str, bytes]) -> tuple[set[str], set[str]]:
    """Paths of HTML pages that links lead to, by allowed pages only; and the forbidden ones that are linked to."""
    reached, forbidden, ring = {"/"}, set[str](), ["/"]
    while ring:
        path = ring.pop()
        parser = _Links()
        parser.feed(pages[path].decode("utf-8", errors="replace"))
        for link in parser.found:
            base = urljoin(f"http://site{path}", parser.base)
            target = urlsplit(urldefrag(urljoin(base, link.strip())).url)
            name = unquote(target.path) or "/"
            if target.scheme != "http" or target.netloc != "site" or name not in pages or name in reached:
                continue
            if name.startswith(FORBIDDEN):
                forbidden.add(name)
            elif name == "/" or name.endswith((".html", "/")):
                reached.add(name)
                ring.append(name)
    return reached, forbidden


def _pass(site: Site, folder: Path, previous: Path | None) -> tuple[Path, Metrics, float]:
    site.log.clear()
    config = CrawlConfig(
        seeds=(site.url(),), allow_loopback=True, delay_s=0.0, recrawl=RecrawlConfig(first_h=0.0), find_feeds=True
    )
    context = local_context("crawl", folder)
    began = time.process_time()
    metrics = crawl(context, config, previous=previous)
    return context.output, metrics, time.process_time() - began


def _told(name: str, site: Site, output: Path, metrics: Metrics, seconds: float) -> None:
    statuses = Counter(request.status for request in site.log)
    print(f"\n{name}: {len(site.log)} requests {dict(sorted(statuses.items()))}, ", end="")
    print(f"{sum(request.sent for request in site.log):,} bytes, {seconds:.1f} s of CPU with the server's share")
    pages = read_json(output / "summary.json")["pages"]
    assert isinstance(pages, dict)
    for state, reasons in pages.items():
        for reason, number in reasons.items():
            print(f"    {state:12}{reason:24}{number:>8,}")
    print(f"    pages in the WARC files with status 200: {metrics['fetched']:,.0f}")


@pytest.mark.slow
def test_debians_documentation_is_crawled_whole_and_a_second_pass_is_almost_all_304(
    documents: dict[str, bytes], tmp_path: Path
):
    reached, forbidden = _reachable(documents)
    assert len(reached) > 2000
    assert len(forbidden) > 5
    with serve_site(Site(dict(documents))) as site:
        first, metrics, seconds = _pass(site, tmp_path / "one", None)
        _told("first pass", site, first, metrics, seconds)
        asked, sent = Counter(site.asked("/robots.txt")), sum(request.sent for request in site.log)
        kept = {urlsplit(page.url).path: page.payload for page in read_pages(first / "warc") if page.status == 200}
        assert {unquote(path) for path in kept} == reached
        assert all(documents[unquote(path)] == body for path, body in kept.items())
        assert set(asked.values()) == {1}
        assert not [path for path in asked if path.startswith(FORBIDDEN)]

        changed = sorted(reached - {"/"})[::100]
        for path in changed:
            site.pages[path] += b"<p>changed"
        second, metrics, seconds = _pass(site, tmp_path / "two", first)
        _told("second pass", site, second, metrics, seconds)
        pages = [request for request in site.log if unquote(request.path.partition("?")[0]) in reached]
        same = sum(request.status == 304 for request in pages) / len(pages)
        fresh = {unquote(request.path.partition("?")[0]) for request in pages if request.status == 200}
        share = sum(request.sent for request in site.log) / sum(map(len, (documents[path] for path in reached)))
        print(f"    304: {same:.2%}; bytes: {share:.2%} of the pages; changed pages found: {len(fresh)}/{len(changed)}")
        assert fresh == set(changed)
        assert same >= 0.95
        assert share < 0.05
        assert sum(request.sent for request in site.log) < 0.05 * sent
        again = {urlsplit(page.url).path: page.payload for page in read_pages(second / "warc") if page.status == 200}
        assert {unquote(path): body for path, body in again.items()} == {path: site.pages[path] for path in reached}
