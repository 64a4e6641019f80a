"""The crawl against servers that do all that servers must not do.

One crawl, the real step in a process of its own, meets all of them (tests/support/hostile_server.py). It has to end by
itself within a minute, in little memory, with every trick noted under its own reason, and with every good page of every
site. Each trick is a test of its own, so a new one that falls over is seen by name.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_server import FETCHED, GOOD_PAGES, SITEMAPS, HostileServer, _answers, _ways, hostile_server
from memory_help import peak_mb

from components.context import local_context
from components.crawl.config import CrawlConfig, RecrawlConfig
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages

DEADLINE_S = 90
MOST_MIB = 450
SETTINGS = {
    "allow_loopback": True,
    "delay_s": 0.0,
    "backoff_s": 0.01,
    "retries": 2,  # The tests share a machine: a trick must not be taken for slow because others keep us busy.
    "timeout_s": 3.0,
    "max_retry_after_s": 0.3,
    "max_redirects": 3,
    "max_depth": 12,
    "max_pages_per_host": 150,
    "max_body_bytes": 3_000_000,
    "max_inflated_bytes": 6_000_000,
    "concurrency": 64,
    "host_concurrency": 16,
}


@dataclass(frozen=True)
class Outcome:
    """What one crawl of all the sites came to."""

    server: HostileServer
    folder: Path
    fates: dict[str, str]
    kinds: dict[str, str]
    seconds: float
    mebibytes: float
    stderr: str

    def fate(self, url: str) -> str:
        """What became of a URL; a path is one of the main site."""
        return self.fates.get(f"http://{self.server.main}{url}" if url.startswith("/") else url, "never heard of")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("hostile")
    with hostile_server() as server:
        config = {**SETTINGS, "seeds": [f"http://{server.main}/"], "hosts": list(server.hosts)}
        (folder / "config.json").write_text(json.dumps(config))
        command = [
            sys.executable,
            "-m",
            "components.crawl",
            "--config",
            folder / "config.json",
            "--output",
            folder / "crawl",
        ]
        started = time.monotonic()
        with (folder / "err").open("wb") as error:
            process = subprocess.Popen(command, stdout=error, stderr=error)
            mebibytes = _wait(process, started + DEADLINE_S)
        seconds = time.monotonic() - started
        stderr = (folder / "err").read_text()
        assert process.returncode == 0, stderr
        with sqlite3.connect(folder / "crawl/output/frontier.sqlite") as database:
            rows = database.execute("SELECT url, kind, state, reason FROM urls").fetchall()
        fates = {url: f"{state} {reason}".strip() for url, _, state, reason in rows}
        kinds = {url: kind for url, kind, _, _ in rows}
        yield Outcome(server, folder / "crawl/output", fates, kinds, seconds, mebibytes, stderr)


def _wait(process: subprocess.Popen[bytes], until: float) -> float:
    """Waits for a process and tells its peak memory in MiB; one that is not done in time is ended."""
    peak = 0.0
    while time.monotonic() < until:
        if process.poll() is not None:
            return peak
        peak = max(peak, peak_mb(process.pid))
        time.sleep(0.05)
    process.kill()
    process.wait()
    pytest.fail(f"the crawl was not done after {DEADLINE_S} s")


@pytest.mark.parametrize("trick", [*_answers(), *_ways()], ids=lambda trick: trick.path.removeprefix("/t/"))
def test_a_trick_is_noted_under_its_own_reason(outcome: Outcome, trick):
    assert outcome.fate(trick.path) in trick.fates
    for url, fate in trick.also.items():
        assert (url, outcome.fate(url)) == (url, fate)


def test_there_are_at_least_sixty_tricks(outcome: Outcome):
    assert len(outcome.server.tricks) + len(outcome.server.hosts) + len(SITEMAPS) >= 60


def test_the_crawl_ends_in_time_and_in_little_memory_without_a_traceback(outcome: Outcome):
    print(f"{outcome.seconds:.1f} s, {outcome.mebibytes:.0f} MiB, {len(outcome.fates)} URLs")
    assert outcome.mebibytes < MOST_MIB
    assert "Traceback" not in outcome.stderr


def test_every_good_page_of_the_main_site_is_fetched(outcome: Outcome):
    assert {outcome.fate(f"/good/{number}") for number in range(GOOD_PAGES)} == {FETCHED}


OPEN = ["robots huge", "robots loop", "robots binary", "robots wild", "robots delay", "calendar", "sessions", "folders"]
OPEN += ["busy for years", "busy since long", "busy until", "busy somehow"]
CLOSED = ["robots slow", "robots silent", "robots 503", "robots to private", "robots bomb", "robots endless"]


@pytest.mark.parametrize("name", OPEN)
def test_the_good_pages_of_a_bad_site_are_fetched(outcome: Outcome, name: str):
    host = outcome.server.site(name)
    assert {outcome.fate(f"http://{host}/good/{number}") for number in range(GOOD_PAGES)} == {FETCHED}


@pytest.mark.parametrize("name", CLOSED)
def test_a_site_whose_rules_cannot_be_had_is_closed(outcome: Outcome, name: str):
    host = outcome.server.site(name)
    assert outcome.fate(f"http://{host}/") == "refused robots unreachable"
    assert outcome.server.asked[f"{host}/"] == 0


@pytest.mark.parametrize("name", ["robots huge", "robots wild", "robots delay"])
def test_rules_that_are_hard_to_read_are_obeyed(outcome: Outcome, name: str):
    host = outcome.server.site(name)
    assert outcome.fate(f"http://{host}/private/x") == "refused robots"
    assert outcome.server.asked[f"{host}/private/x"] == 0


@pytest.mark.parametrize("name", ["calendar", "sessions", "folders"])
def test_a_site_without_end_is_left_at_the_depth_or_the_cap(outcome: Outcome, name: str):
    prefix = f"http://{outcome.server.site(name)}/"
    fates = [fate for url, fate in outcome.fates.items() if url.startswith(prefix)]
    assert fates.count(FETCHED) <= SETTINGS["max_pages_per_host"]
    assert {"refused depth", "refused host cap"} & set(fates)


@pytest.mark.parametrize(
    ("name", "asked"), [("busy for years", 1), ("busy until", 1), ("busy since long", 3), ("busy somehow", 3)]
)
def test_a_busy_site_is_asked_again_only_as_it_says_and_as_long_as_we_would_wait(
    outcome: Outcome, name: str, asked: int
):
    host = outcome.server.site(name)
    assert outcome.fate(f"http://{host}/busy").startswith("failed status")
    assert outcome.server.asked[f"{host}/busy"] == asked


@pytest.mark.parametrize("name", SITEMAPS)
def test_a_bad_sitemap_ends_like_any_url_and_gives_no_page_it_should_not(outcome: Outcome, name: str):
    url = f"http://{outcome.server.main}{name}"
    assert outcome.kinds[url] == "sitemap"
    assert outcome.fates[url].split()[0] in ("fetched", "refused", "failed")


def test_sitemaps_that_name_one_another_are_followed_a_few_levels_only(outcome: Outcome):
    nested = [url for url in outcome.fates if "/s/indexes.xml" in url]
    assert 2 <= len(nested) <= 5
    assert outcome.server.asked[f"{outcome.server.main}/s/index.xml"] == 1


def test_entities_of_sitemaps_are_neither_expanded_nor_fetched(outcome: Outcome):
    assert not [url for url in outcome.fates if "root:" in url or "aaaaaaaaaa" in url]


def test_a_plain_port_spoken_to_in_tls_closes_that_scheme_alone(outcome: Outcome):
    assert outcome.fate(f"https://{outcome.server.main}/secure") == "refused robots unreachable"


def test_nothing_is_left_pending_and_the_summary_adds_up(outcome: Outcome):
    assert not [url for url, fate in outcome.fates.items() if fate.split()[0] in ("pending", "active")]
    summary = json.loads((outcome.folder / "summary.json").read_text())
    counted = sum(sum(reasons.values()) for kind in ("pages", "sitemaps") for reasons in summary[kind].values())
    assert counted == sum(kind in ("page", "sitemap") for kind in outcome.kinds.values())


def test_what_was_fetched_can_be_read_back(outcome: Outcome):
    fetched = {url for url, fate in outcome.fates.items() if fate == FETCHED and outcome.kinds[url] == "page"}
    assert fetched <= {page.url for page in read_pages(outcome.folder / "warc")}


def test_a_server_that_always_says_not_modified_costs_no_page(tmp_path: Path):
    with hostile_server() as server:
        host = server.site("liar")
        config = CrawlConfig(
            seeds=(f"http://{host}/",), allow_loopback=True, delay_s=0.0, recrawl=RecrawlConfig(first_h=0.0, min_h=0.0)
        )
        previous = None
        for round_number in range(3):
            context = local_context("crawl", tmp_path / str(round_number))
            crawl(context, config, previous=previous)
            previous = context.output
            found = [page for page in read_pages(previous / "warc") if page.status == 200]
            pages = {page.url: page.payload for page in found}
            assert sorted(page.url.rpartition("/")[2] for page in found) == ["", "a", "unasked"]
            assert all(body.startswith(b"<p>/") for body in pages.values())
