"""What a crawl as a whole does with rules, lists, caps and ranks; and how it behaves towards a site."""

import gzip
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from site_server import Site, serve_site

from components.context import LocalContext, local_context
from components.crawl import crawler
from components.crawl.config import CrawlConfig, RecrawlConfig
from components.crawl.frontier import Frontier
from components.crawl.lanes import ROBOTS_HOLD_S
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages
from components.errors import StepError

Run = Callable[..., LocalContext]


def _links(*paths: str) -> bytes:
    return "".join(f'<a href="{path}">x</a>' for path in paths).encode()


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_site(Site({"/": b"front"})) as made:
        yield made


def _config(site: Site, **changes: object) -> CrawlConfig:
    base = {"seeds": (site.url(),), "allow_loopback": True, "delay_s": 0.0, "backoff_s": 0.01, "retries": 0}
    return CrawlConfig(**{**base, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, site: Site) -> Run:
    def crawl_once(**changes: object) -> LocalContext:
        context = local_context("crawl", tmp_path / "crawl")
        crawl(context, _config(site, **changes))
        return context

    return crawl_once


def _fates(context: LocalContext) -> dict[str, str]:
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        rows = database.execute("SELECT url, state, reason FROM urls").fetchall()
    return {"/" + url.split("/", 3)[3]: f"{state} {why}".strip() for url, state, why in rows}


def test_feeds_that_pages_name_lead_to_pages_no_link_leads_to(run: Run, site: Site):
    site.pages["/"] = b'<link rel="alternate" type="application/rss+xml" href="/feed.xml"><a href="/feed.xml">x</a>'
    site.pages["/feed.xml"] = f"<rss><item><link>{site.url('/a')}</link></item></rss>".encode()
    site.pages["/a"] = b"x"
    fates = _fates(run())
    assert (fates["/feed.xml"], fates["/a"]) == ("fetched", "fetched")
    assert site.asked("/robots.txt").count("/feed.xml") == 1


def test_a_page_that_turns_out_to_be_a_feed_is_read_as_one(run: Run, site: Site):
    site.pages["/"] = _links("/feed.xml", "/late")
    site.pages["/late"] = b'<link rel="alternate" type="application/rss+xml" href="/feed.xml">'
    site.pages["/feed.xml"] = f"<rss><item><link>{site.url('/a')}</link></item></rss>".encode()
    site.pages["/a"] = b"x"
    fates = _fates(run(host_concurrency=1))
    assert (fates["/feed.xml"], fates["/a"]) == ("fetched", "fetched")


def test_feeds_of_the_settings_are_read(run: Run, site: Site):
    site.pages["/f.json"] = json.dumps({"items": [{"url": "/a"}]}).encode()
    site.pages["/a"] = b"x"
    assert _fates(run(feeds=(site.url("/f.json"),)))["/a"] == "fetched"


def test_feeds_are_not_looked_for_where_the_settings_say_so(run: Run, site: Site):
    site.pages["/"] = b'<link rel="alternate" type="application/rss+xml" href="/feed.xml">'
    assert "/feed.xml" not in _fates(run(find_feeds=False))


def test_what_owners_refuse_to_ai_is_not_fetched(run: Run, site: Site):
    site.pages["/robots.txt"] = b"User-agent: *\nContent-Usage: /a train-ai=n\n\nUser-agent: GPTBot\nDisallow: /b\n"
    site.pages |= {"/": _links("/a", "/b", "/c"), "/a": b"x", "/b": b"x", "/c": b"x"}
    context = run()
    assert [_fates(context)[path] for path in ("/a", "/b", "/c")] == ["refused robots ai"] * 2 + ["fetched"]
    assert set(site.asked()) == {"/robots.txt", "/", "/c"}
    assert json.loads((context.output / "summary.json").read_text())["pages"]["refused"] == {"robots ai": 2}


def test_nobody_on_the_opt_out_list_is_asked_anything_even_robots(run: Run, site: Site, tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("127.0.0.2\n")
    site.pages["/"] = _links(site.url("/a", 2))
    context = run(opt_out_file=str(path), hosts=(f"127.0.0.2:{site.port}",))
    assert _fates(context)["/a"] == "refused opt-out"
    assert {request.host for request in site.log} == {"127.0.0.1"}


def test_a_seed_on_the_opt_out_list_is_refused_with_the_reason(run: Run, site: Site):
    with pytest.raises(StepError, match="refused: opt-out"):
        run(opt_out=("127.0.0.1",))
    assert site.log == []


def test_a_crawl_that_gave_nothing_asks_anew_the_next_time(run: Run, site: Site):
    site.statuses["/robots.txt"] = 503
    with pytest.raises(StepError, match="robots"):
        run()
    del site.statuses["/robots.txt"]
    assert _fates(run())["/"] == "fetched"


@pytest.mark.parametrize("most", [1, 3])
def test_no_host_gives_more_pages_than_it_may(run: Run, site: Site, most: int):
    paths = [f"/{number}" for number in range(9)]
    site.pages |= {"/": _links(*paths, site.url("/", 2)), **dict.fromkeys(paths, b"x")}
    run(max_pages_per_host=most, hosts=(f"127.0.0.2:{site.port}",), concurrency=8)
    asked = Counter(request.host for request in site.log if request.path != "/robots.txt")
    assert asked == {"127.0.0.1": most, "127.0.0.2": most}


def test_a_failed_page_leaves_its_place_to_another(run: Run, site: Site):
    site.pages |= {"/": _links("/none", "/a", "/b"), "/a": b"x", "/b": b"x"}
    fates = _fates(run(max_pages_per_host=2, host_concurrency=1))
    assert Counter(fates.values()) == {"fetched": 2, "failed status 404": 1, "refused host cap": 1}


def test_a_body_that_inflates_beyond_the_ratio_is_refused(run: Run, site: Site):
    bomb, text = gzip.compress(bytes(3_000_000)), gzip.compress(random.Random(1).randbytes(2_000_000).hex().encode())
    site.pages |= {"/": _links("/bomb", "/text"), "/bomb": bomb, "/text": text}
    site.headers = {path: {"Content-Encoding": "gzip"} for path in ("/bomb", "/text")}
    fates = _fates(run(max_inflation=200.0))
    assert (fates["/bomb"], fates["/text"]) == ("refused too large", "fetched")


def test_pages_come_in_order_of_rank(run: Run, site: Site):
    listed = "".join(f"<url><loc>{site.url(f'/{n}')}</loc><priority>0.{n}</priority></url>" for n in (3, 9, 6))
    site.pages["/robots.txt"] = b"User-agent: *\nSitemap: /map.xml\n"
    site.pages |= {"/map.xml": f"<urlset>{listed}</urlset>".encode(), "/": _links("/low", "/link", "/high/a")}
    site.pages |= dict.fromkeys(("/3", "/6", "/9", "/low", "/link", "/high/a"), b"x")
    run(host_concurrency=1, priorities={"/high/": "95", "/low": "1"}, recrawl=RecrawlConfig())
    order = site.asked("/robots.txt", "/map.xml", "/")
    assert order == ["/9", "/6", "/high/a", "/link", "/3", "/low"]


def test_robots_is_read_again_after_a_day_and_not_before(site: Site, tmp_path: Path):
    site.pages |= {"/": _links("/a"), "/a": b"x"}
    context = local_context("crawl", tmp_path)
    for age_s, reads in ((0.0, 1), (ROBOTS_HOLD_S - 60, 1), (ROBOTS_HOLD_S + 60, 2)):
        crawl(context, _config(site))
        (path,) = context.scratch.rglob("frontier.sqlite")
        _change(path, f"UPDATE robots SET read_at = read_at - {age_s}")
        _change(path, "UPDATE urls SET state = 'pending', warc_file = NULL WHERE url LIKE '%/a'")
        crawl(context, _config(site))
        assert site.asked().count("/robots.txt") == reads
        _change(path, f"UPDATE robots SET read_at = read_at + {age_s}")


def _change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


def test_the_gap_holds_across_a_kill(site: Site, tmp_path: Path):
    site.pages |= {"/": _links(*(f"/{number}" for number in range(4))), **{f"/{n}": b"x" for n in range(4)}}
    site.pages["/robots.txt"] = b"User-agent: *\nCrawl-delay: 1\n"
    script = (
        "import sys; from pathlib import Path; from components.context import local_context; "
        "from components.crawl.step import crawl; from components.crawl.config import CrawlConfig; "
        "crawl(local_context('crawl', Path(sys.argv[1])), CrawlConfig(seeds=(sys.argv[2],), allow_loopback=True, "
        "delay_s=0.0, backoff_s=0.01, retries=0))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), site.url()])
    deadline = time.monotonic() + 60
    while len(site.log) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    crawl(local_context("crawl", tmp_path), _config(site))
    assert len(site.log) >= 5
    assert min(later.at - earlier.at for earlier, later in pairwise(site.log)) >= 1.0


def test_a_frontier_keeps_when_a_host_may_be_asked_again(tmp_path: Path):
    frontier = Frontier(tmp_path / "frontier.sqlite")
    frontier.note_host("e.com", 123.5)
    frontier.close()
    assert Frontier(tmp_path / "frontier.sqlite").host_ready_at("e.com") == 123.5


def _big_site(site: Site, pages: int) -> set[str]:
    """A site with forbidden corners, dead ends and repeats; returns what may be reached."""
    draw = random.Random(7)
    site.pages.clear()
    names = [f"/{'private/' * (n % 11 == 3)}{n}.html" for n in range(pages)]
    for name in names:
        to = [*draw.sample(names, 5), f"/{draw.randrange(10**6)}.gone.html", f"{name}?utm_source=x#y", "/private/x"]
        site.pages[name] = _links(*to) + draw.randbytes(600).hex().encode()
    site.pages["/"] = _links(*names[:3])
    site.pages["/robots.txt"] = b"User-agent: *\nDisallow: /private/\n"
    reached, ring = {"/"}, ["/"]
    while ring:
        body = site.pages[ring.pop()].decode()
        for part in body.split('href="')[1:]:
            path = part.partition('"')[0].partition("?")[0]
            if path in site.pages and not path.startswith("/private/") and path not in reached:
                reached.add(path)
                ring.append(path)
    return reached


def test_a_site_is_crawled_whole_politely_and_cheaply_again(site: Site, tmp_path: Path):
    reached = _big_site(site, 180)
    config = _config(site, recrawl=RecrawlConfig(first_h=0.0))
    first = local_context("crawl", tmp_path / "one")
    crawl(first, config)
    kept = [page.url for page in read_pages(first.output / "warc") if page.status == 200]
    asked = Counter(site.asked())
    assert {"/" + url.split("/", 3)[3] for url in kept} == reached
    assert len(reached) > 100
    assert set(asked.values()) == {1}
    assert not [path for path in asked if path.startswith("/private")]
    sent = sum(request.sent for request in site.log)
    site.log.clear()
    changed = set(sorted(reached - {"/"})[::100])
    for path in changed:
        site.pages[path] += b"<p>changed</p>"
    second = local_context("crawl", tmp_path / "two")
    metrics = crawl(second, config, previous=first.output)
    pages = [request for request in site.log if request.path in reached]
    share = sum(request.status == 304 for request in pages) / len(pages)
    assert share >= 0.95
    assert {request.path for request in pages if request.status == 200} == changed
    assert metrics["changed"] == len(changed)
    assert sum(request.sent for request in pages) < 0.05 * sent
    again = {page.url: page.payload for page in read_pages(second.output / "warc") if page.status == 200}
    assert {"/" + url.split("/", 3)[3]: body for url, body in again.items()} == {p: site.pages[p] for p in reached}


def test_a_crawl_of_many_hosts_keeps_only_those_at_work(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept: list[int] = []

    class Watched(crawler.Crawler):
        def _leave(self, *arguments: Any) -> None:
            super()._leave(*arguments)
            kept.append(len(self._lanes))

    monkeypatch.setattr(crawler, "Crawler", Watched)
    hosts = range(1, 81)
    site.pages = {f"127.0.0.{host}/": _links(*(site.url("/", host + step) for step in (1, 2))) for host in hosts}
    config = _config(site, hosts=tuple(f"127.0.0.{host}:{site.port}" for host in hosts), concurrency=4)
    assert crawl(local_context("crawl", tmp_path), config)["fetched"] == len(hosts)
    assert max(kept) < 20
