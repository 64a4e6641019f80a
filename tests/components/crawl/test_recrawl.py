"""A crawl that is given an earlier one: what is asked again, what is kept, what is noted."""

import gzip
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import given
from hypothesis import strategies as st
from site_server import Site, serve_site

from components.context import LocalContext, Metrics, local_context
from components.crawl.config import CrawlConfig, RecrawlConfig
from components.crawl.recrawl import Earlier, next_interval_s
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages
from components.errors import StepError

ALWAYS = RecrawlConfig(first_h=0.0)
Run = Callable[..., tuple[LocalContext, Metrics]]


def _links(*paths: str) -> bytes:
    return "".join(f'<a href="{path}">x</a>' for path in paths).encode()


@pytest.fixture
def site() -> Iterator[Site]:
    paths = [f"/{number}" for number in range(20)]
    with serve_site(Site({"/": _links(*paths), **{path: _links("/") + path.encode() * 200 for path in paths}})) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, site: Site) -> Run:
    """Crawls the site into a folder of the given name; keyword arguments change the config."""

    def crawl_once(name: str, previous: LocalContext | None = None, **changes: object) -> tuple[LocalContext, Metrics]:
        settings = {"seeds": (site.url(),), "allow_loopback": True, "delay_s": 0.0, "backoff_s": 0.01, "retries": 0}
        config = CrawlConfig(**{**settings, "recrawl": ALWAYS, **changes})  # type: ignore[arg-type]
        context = local_context("crawl", tmp_path / name)
        return context, crawl(context, config, previous=previous.output if previous else None)

    return crawl_once


def _row(context: LocalContext, url: str) -> dict[str, object]:
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        database.row_factory = sqlite3.Row
        return dict(database.execute("SELECT * FROM urls WHERE url = ?", (url,)).fetchone())


def _changes(context: LocalContext, url: str) -> list[tuple[int, str]]:
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        query = "SELECT status, digest FROM changes WHERE url = ? ORDER BY at"
        return database.execute(query, (url,)).fetchall()


def _pages(context: LocalContext) -> dict[str, bytes]:
    pages = [(page.url, page.payload) for page in read_pages(context.output / "warc") if page.status == 200]
    assert len(pages) == len(dict(pages))
    return dict(pages)


def _records(context: LocalContext, kind: str) -> list[dict[str, str]]:
    found = []
    for path in sorted((context.output / "warc").iterdir()):
        with path.open("rb") as file:
            found += [dict(record.headers) for record in ArchiveIterator(file)]
    return [head for head in found if head["WARC-Type"] == kind]


def test_a_second_pass_gets_304_for_what_is_the_same_and_the_new_artifact_is_whole(run: Run, site: Site):
    first, _ = run("one")
    before = sum(request.sent for request in site.log)
    site.log.clear()
    second, metrics = run("two", first)
    again = [request for request in site.log if request.path != "/robots.txt"]
    assert {request.status for request in again} == {304}
    assert len(again) == metrics["not_modified"] == metrics["fetched"] == 21
    assert sum(request.sent for request in site.log) < 0.05 * before
    assert _pages(second) == _pages(first)


def test_a_third_pass_goes_on_from_the_second_alone(run: Run, site: Site, tmp_path: Path):
    first, _ = run("one")
    second, _ = run("two", first)
    for path in sorted((first.output / "warc").iterdir()):
        path.unlink()
    third, metrics = run("three", second)
    assert metrics["not_modified"] == 21
    assert len(_pages(third)) == 21
    assert len(_records(third, "response")) == 21
    assert len(_records(third, "revisit")) == 21


def test_changed_new_and_vanished_pages_are_all_found(run: Run, site: Site):
    first, _ = run("one")
    site.pages["/3"] = b"changed"
    site.pages["/4"] = _links("/new")
    site.pages["/new"] = b"fresh"
    del site.pages["/5"]
    site.statuses["/6"] = 410
    second, metrics = run("two", first)
    assert (metrics["changed"], metrics["gone"], metrics["fetched"]) == (2, 2, 20)
    pages = _pages(second)
    assert pages[site.url("/3")] == b"changed"
    assert pages[site.url("/new")] == b"fresh"
    assert site.url("/5") not in pages
    assert site.url("/6") not in pages


def test_a_tombstone_stays_and_its_history_tells_when_it_went_and_came_back(run: Run, site: Site):
    first, _ = run("one")
    body = site.pages.pop("/5")
    second, _ = run("two", first)
    assert (_row(second, site.url("/5"))["state"], _row(second, site.url("/5"))["status"]) == ("failed", 404)
    third, metrics = run("three", second)
    assert metrics["gone"] == 1
    assert [status for status, _ in _changes(third, site.url("/5"))] == [200, 404]
    site.pages["/5"] = body
    fourth, metrics = run("four", third)
    assert (metrics["gone"], metrics["fetched"]) == (0, 21)
    assert [status for status, _ in _changes(fourth, site.url("/5"))] == [200, 404, 200]


def test_the_same_body_without_validators_is_a_revisit_too(run: Run, site: Site):
    site.validators = False
    first, _ = run("one")
    second, metrics = run("two", first)
    assert (metrics["same_body"], metrics["not_modified"], metrics["changed"]) == (21, 0, 0)
    profiles = {head["WARC-Profile"].rpartition("/")[2] for head in _records(second, "revisit")}
    assert profiles == {"identical-payload-digest"}
    assert _pages(second) == _pages(first)


def test_a_revisit_refers_to_the_record_that_holds_the_page(run: Run, site: Site):
    second, _ = run("two", run("one")[0])
    responses = {head["WARC-Record-ID"]: head for head in _records(second, "response")}
    revisits = _records(second, "revisit")
    assert len(revisits) == 21
    for head in revisits:
        before = responses[head["WARC-Refers-To"]]
        assert before["WARC-Target-URI"] == head["WARC-Target-URI"] == head["WARC-Refers-To-Target-URI"]
        assert before["WARC-Date"] == head["WARC-Refers-To-Date"]
        assert head["WARC-Profile"].endswith("/server-not-modified")


def test_what_is_not_due_is_kept_without_asking(run: Run, site: Site):
    slow = RecrawlConfig(first_h=24.0)
    first, _ = run("one", recrawl=slow)
    site.log.clear()
    site.pages["/3"] = b"changed"
    second, metrics = run("two", first, recrawl=slow)
    assert site.asked() == ["/robots.txt"]
    assert metrics["not_due"] == 21
    assert _pages(second) == _pages(first)


def test_a_sitemap_that_tells_of_a_change_makes_a_page_due(run: Run, site: Site):
    slow = RecrawlConfig(first_h=24.0)
    site.pages["/robots.txt"] = b"User-agent: *\nSitemap: /map.xml\n"
    form = "<urlset><url><loc>{}</loc><lastmod>{}</lastmod></url><url><loc>{}</loc><lastmod>{}</lastmod></url></urlset>"
    site.pages["/map.xml"] = form.format(site.url("/3"), "2001-01-01", site.url("/4"), "2001-01-01").encode()
    first, _ = run("one", recrawl=slow)
    _set_clock_back(first, 3 * 86400)
    site.pages["/map.xml"] = form.format(site.url("/3"), _a_day_ago(), site.url("/4"), "2001-01-01").encode()
    site.log.clear()
    run("two", first, recrawl=slow)
    assert site.asked("/robots.txt", "/map.xml") == ["/3"]


def _set_clock_back(context: LocalContext, seconds: float) -> None:
    """Makes a crawl look older than it is, with nothing due yet."""
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        database.execute("UPDATE urls SET checked_at = checked_at - ?, next_due = next_due + ?", (seconds, seconds))


def _a_day_ago() -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) - timedelta(days=1)).isoformat()


def test_a_page_that_cannot_be_had_just_now_is_kept_as_it_was(run: Run, site: Site):
    first, _ = run("one")
    site.statuses["/3"] = 500
    second, metrics = run("two", first)
    assert (metrics["stale"], metrics["fetched"], metrics["failed"]) == (1, 21, 0)
    assert _pages(second) == _pages(first)


def test_a_whole_site_in_trouble_keeps_its_pages(run: Run, site: Site):
    first, _ = run("one")
    site.statuses["/robots.txt"] = 503
    site.log.clear()
    second, metrics = run("two", first)
    assert set(site.asked()) == {"/robots.txt"}
    assert metrics["stale"] == 21
    assert _pages(second) == _pages(first)


def test_pages_that_robots_forbids_now_or_whose_owner_opts_out_are_not_taken_over(run: Run, site: Site):
    first, _ = run("one")
    site.pages["/robots.txt"] = b"User-agent: *\nDisallow: /3\n"
    second, metrics = run("two", first, opt_out=(site.url("/4"),))
    pages = _pages(second)
    assert site.url("/3") not in pages
    assert site.url("/4") not in pages
    assert (metrics["refused_by_robots"], metrics["opted_out"], metrics["fetched"]) == (1, 1, 19)


def test_the_interval_is_in_the_frontier_and_moves_with_what_is_found(run: Run, site: Site):
    fixed = RecrawlConfig(first_h=24.0)
    first, _ = run("one", recrawl=fixed)
    assert _row(first, site.url("/3"))["interval_s"] == 24 * 3600
    _make_due(first)
    site.pages["/3"] = b"changed"
    second, _ = run("two", first, recrawl=fixed)
    changed, same = _row(second, site.url("/3")), _row(second, site.url("/4"))
    assert changed["interval_s"] == 12 * 3600
    assert same["interval_s"] == 48 * 3600
    assert same["next_due"] == pytest.approx(float(str(same["checked_at"])) + 48 * 3600)


def _make_due(context: LocalContext) -> None:
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        database.execute("UPDATE urls SET next_due = 1")


def test_a_killed_recrawl_goes_on_and_ends_with_the_same_pages(run: Run, site: Site, tmp_path: Path):
    from components.errors import Preempted

    first, _ = run("one")
    site.log.clear()
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "stop").touch()
    with pytest.raises(Preempted):
        run("two", first)
    (folder / "stop").unlink()
    second, metrics = run("two", first)
    assert metrics["not_modified"] == 21
    assert len(site.asked("/robots.txt")) == 21
    assert _pages(second) == _pages(first)


def test_a_304_that_was_not_asked_for_is_a_failure(run: Run, site: Site):
    site.statuses["/3"] = 304
    first, metrics = run("one")
    assert _row(first, site.url("/3"))["reason"] == "status 304"
    assert metrics["failed"] == 1


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like one" * 99, b"", None])
def test_an_artifact_that_is_no_crawl_is_refused_with_a_sentence(run: Run, tmp_path: Path, content: bytes | None):
    context = local_context("crawl", tmp_path / "none")
    if content is not None:
        (context.output / "frontier.sqlite").write_bytes(content)
    with pytest.raises(StepError, match="earlier crawl cannot be gone on from"):
        run("two", context)


def test_a_damaged_earlier_record_is_named(run: Run, site: Site):
    first, _ = run("one")
    (path,) = (first.output / "warc").iterdir()
    content = bytearray(path.read_bytes())
    row = _row(first, site.url("/3"))
    middle = (int(str(row["warc_offset"])) + int(str(row["warc_end"]))) // 2
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(bytes(content))
    with pytest.raises(StepError, match="damaged"):
        run("two", first)


def test_licence_and_opt_out_headers_stay_in_the_record(run: Run, site: Site):
    said = {"X-Robots-Tag": "noai, noindex", "TDM-Reservation": "1", "Link": '<https://e.com/l>; rel="license"'}
    site.headers["/3"] = said
    second, _ = run("two", run("one")[0])
    (page,) = [page for page in read_pages(second.output / "warc") if page.url == site.url("/3")]
    assert {name: page.headers[name.lower()] for name in said} == said


@pytest.mark.parametrize("validators", [True, False])
def test_a_new_wish_of_the_owner_comes_into_the_record_though_the_page_is_the_same(
    run: Run, site: Site, validators: bool
):
    site.validators = validators
    site.headers["/4"] = {"X-Robots-Tag": "noindex"}
    first, _ = run("one")
    site.headers["/3"] = {"X-Robots-Tag": "noai"}
    second, metrics = run("two", first)
    (page,) = [page for page in read_pages(second.output / "warc") if page.url == site.url("/3")]
    assert page.headers["x-robots-tag"] == "noai"
    assert metrics["not_modified"] + metrics["same_body"] == 20
    site.log.clear()
    run("three", second)
    assert max(site.asked().count(path) for path in site.asked()) == 1


def test_metadata_tells_why_a_page_was_fetched_and_where_it_leads(run: Run, site: Site):
    context, _ = run("one")
    (path,) = (context.output / "warc").iterdir()
    with gzip.open(path, "rb") as file:
        text = file.read().decode("latin-1")
    records = [part for part in text.split("WARC/1.1\r\n") if "WARC-Type: metadata" in part]
    (about,) = [part for part in records if f"WARC-Target-URI: {site.url('/3')}\r\n" in part]
    assert f"whyFetched: link\r\nvia: {site.url('/')}\r\nhopsFromSeed: 1\r\noutlink: {site.url('/')}\r\n" in about


def test_the_summary_counts_every_url_once(run: Run, site: Site):
    second, _ = run("two", run("one")[0])
    summary = json.loads((second.output / "summary.json").read_text())
    with sqlite3.connect(second.output / "frontier.sqlite") as database:
        (number,) = database.execute("SELECT count(*) FROM urls").fetchone()
    assert (
        sum(sum(some.values()) for kind in ("pages", "sitemaps", "feeds") for some in summary[kind].values()) == number
    )
    assert summary["pages"]["fetched"] == {"not modified": 21}


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 50), st.floats(0, 50), st.floats(50, 5000))
def test_intervals_stay_within_their_limits(seen: list[bool], first: float, least: float, most: float):
    config = RecrawlConfig(first, least, most)
    interval = next_interval_s(None, True, config)
    assert interval == first * 3600
    for changed in seen:
        after = next_interval_s(interval, changed, config)
        assert after <= most * 3600
        assert first == 0 or after >= min(least, most) * 3600
        inside = least * 3600 <= interval / 2 and interval * 2 <= most * 3600
        assert not inside or after == (interval / 2 if changed else interval * 2)
        interval = after


@given(st.text(max_size=30), st.text(max_size=30))
def test_validators_are_headers_or_not_sent(etag: str, modified: str):
    nothing = (None, None, None, None)
    known = Earlier("u", "page", 0, "fetched", "", 200, etag, modified, "d", 1, "f", 0, 9, *nothing)
    for value in known.validators().values():
        assert value.isascii()
        assert value.isprintable()
