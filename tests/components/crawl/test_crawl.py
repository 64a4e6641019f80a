"""The step as a whole, over HTTP."""

import gzip
import json
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from components.context import local_context
from components.crawl.config import CrawlConfig
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages
from components.errors import ConfigError, Preempted, StepError
from components.sample.server import Hit, serve
from components.sample.step import file_of

SAMPLE = "http://sample.headwater.test"


def _links(*paths: str) -> str:
    return "".join(f'<a href="{path}">x</a>' for path in paths)


def _loopback(port: int, **changes: object) -> CrawlConfig:
    settings = {"seeds": (f"http://127.0.0.1:{port}/",), "allow_loopback": True, "delay_s": 0.0, "backoff_s": 0.01}
    return CrawlConfig(**{**settings, **changes})  # type: ignore[arg-type]


def test_every_reachable_page_that_is_allowed_is_kept_once_byte_for_byte(small_site: Path, run_crawl, pages_of):
    pages = pages_of(run_crawl(small_site))
    on_disk = {path for path in (small_site / "www").rglob("*.html") if "private" not in path.parts}
    kept = {path: page for path, page in pages.items() if page.status == 200}
    assert {small_site / "www" / file_of(path) for path in kept} == on_disk
    assert len(kept) == len(on_disk) > 40
    for path, page in kept.items():
        assert page.payload == (small_site / "www" / file_of(path)).read_bytes()
        assert page.url == SAMPLE + path


def test_every_url_ends_with_a_reason(small_site: Path, run_crawl, fates):
    context = run_crawl(small_site)
    ends = fates(context)
    assert ends["/private/"] == "refused robots"
    assert ends["/odd/error.html"] == "failed status 500"
    assert ends["/odd/missing.html"] == "failed status 404"
    assert ends["/odd/moved.html"] == "redirected"
    assert ends["/odd/moved-here.html"] == "fetched"
    assert ends["/odd/loop-1.html"] == ends["/odd/loop-2.html"] == "redirected"
    assert ends["/odd/busy.html"] == "fetched"
    assert ends["/odd/picture"] == "refused content type"
    assert ends["https://www.example.org/partner"] == "refused scope"
    assert ends["http://169.254.169.254/latest/meta-data/"] == "refused scope"
    assert not [url for url, end in ends.items() if end.split()[0] in ("pending", "active")]
    summary = json.loads((context.output / "summary.json").read_text())
    assert sum(sum(some.values()) for kind in ("pages", "sitemaps") for some in summary[kind].values()) == len(ends)
    assert summary["pages"]["refused"]["robots"] == 3


def test_metrics_and_progress_add_up(small_site: Path, tmp_path: Path):
    context = local_context("crawl", tmp_path)
    metrics = crawl(context, CrawlConfig(delay_s=0.0, backoff_s=0.01), site=small_site)
    assert metrics["refused_by_robots"] == 3
    assert metrics["failed"] == 2
    assert metrics["redirected"] == 4
    assert metrics["bytes"] > 100_000
    last = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-1])
    assert (
        last["done"]
        == last["total"]
        == sum(metrics[name] for name in ("fetched", "refused_by_robots", "failed", "redirected"))
    )
    assert last["note"] == f"kept {metrics['fetched']:.0f}, refused by robots 3, failed 2"


def test_two_crawls_keep_the_same_pages(small_site: Path, tmp_path: Path):
    found = []
    for name, concurrency in (("one", 1), ("two", 16)):
        context = local_context("crawl", tmp_path / name)
        crawl(context, CrawlConfig(delay_s=0.0, backoff_s=0.01, concurrency=concurrency), site=small_site)
        found.append(sorted((page.url, page.status, page.payload) for page in read_pages(context.output / "warc")))
    assert found[0] == found[1]


def test_robots_is_read_first_and_obeyed(small_site: Path, tmp_path: Path):
    log: list[Hit] = []
    with serve(small_site, log) as port:
        crawl(local_context("crawl", tmp_path), _loopback(port, contact="https://e.com/bot"))
    assert log[0].path == "/robots.txt"
    assert len(log) > 40
    assert not [hit.path for hit in log if hit.path.startswith("/private")]
    assert {hit.agent.partition("/")[0] for hit in log} == {"Headwater"}
    assert all(hit.agent.endswith("(+https://e.com/bot)") for hit in log)


@pytest.mark.parametrize(("delay_s", "asked"), [(0.04, "0"), (0.0, "0.04")])
def test_the_gap_between_requests_is_kept(make_site, tmp_path: Path, delay_s: float, asked: str):
    pages = {f"/{number}": _links("/") for number in range(8)}
    robots = f"User-agent: *\nCrawl-delay: {asked}\n"
    log: list[Hit] = []
    with serve(make_site({"/": _links(*pages), "/robots.txt": robots, **pages}), log) as port:
        crawl(local_context("crawl", tmp_path), _loopback(port, delay_s=delay_s))
    assert len(log) == 10
    times = [hit.time for hit in log]
    assert all(later - earlier >= 0.04 for earlier, later in pairwise(times))


@pytest.mark.parametrize("kill_at", [8, 30])
def test_a_killed_crawl_goes_on_and_asks_for_each_page_once(small_site: Path, tmp_path: Path, kill_at: int):
    script = (
        "import sys; from pathlib import Path; from components.context import local_context; "
        "from components.crawl.step import crawl; from components.crawl.config import CrawlConfig; "
        "crawl(local_context('crawl', Path(sys.argv[1])), CrawlConfig(seeds=(sys.argv[2],), allow_loopback=True, "
        "delay_s=0.0, backoff_s=0.01, host_concurrency=4))"
    )
    log: list[Hit] = []
    context = local_context("crawl", tmp_path)
    with serve(small_site, log) as port:
        config = _loopback(port, host_concurrency=4)
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), config.seeds[0]])
        deadline = time.monotonic() + 60
        while len(log) < kill_at and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        process.wait()
        asked_before = [hit.path for hit in log]
        crawl(context, config)
    assert len(asked_before) >= kill_at
    asked = [hit.path for hit in log if hit.path not in ("/robots.txt", "/odd/error.html", "/odd/busy.html")]
    twice = [path for path in set(asked) if asked.count(path) > 1]
    assert len(twice) <= 4  # Those on their way when it died.
    assert len(asked) > len(asked_before) + 5
    kept = [page.url for page in read_pages(context.output / "warc")]
    assert len(kept) == len(set(kept))
    paths = {"/" + url.split("/", 3)[3] for url in kept}
    assert {path for path in asked if not path.endswith(("picture", ".xml"))} <= paths


def test_a_stopped_crawl_says_so_and_goes_on(small_site: Path, tmp_path: Path):
    context = local_context("crawl", tmp_path)
    (tmp_path / "stop").touch()
    config = CrawlConfig(delay_s=0.0, backoff_s=0.01)
    with pytest.raises(Preempted, match="stopped after 0 pages"):
        crawl(context, config, site=small_site)
    (tmp_path / "stop").unlink()
    assert crawl(context, config, site=small_site)["fetched"] > 40


def test_a_crawl_stopped_on_its_way_asks_for_nothing_twice(small_site: Path, tmp_path: Path):
    log: list[Hit] = []
    context = local_context("crawl", tmp_path)

    def stop_soon() -> None:
        while len(log) < 8:
            time.sleep(0.001)
        (tmp_path / "stop").touch()

    with serve(small_site, log) as port:
        config = _loopback(port, delay_s=0.02)
        stopper = threading.Thread(target=stop_soon, daemon=True)
        stopper.start()
        with pytest.raises(Preempted):
            crawl(context, config)
        stopper.join()
        (tmp_path / "stop").unlink()
        before = len(log)
        crawl(context, config)
    assert before >= 8
    asked = [hit.path for hit in log if hit.path not in ("/robots.txt", "/odd/error.html", "/odd/busy.html")]
    assert len(asked) - len(set(asked)) <= 1  # One was on its way.
    assert len(set(asked)) > 40


def test_a_finished_crawl_whose_output_was_lost_asks_nobody_again(make_site, tmp_path: Path):
    log: list[Hit] = []
    context = local_context("crawl", tmp_path)
    with serve(make_site({"/": _links("/a"), "/a": "x"}), log) as port:
        crawl(context, _loopback(port))
        requests = len(log)
        (context.output / "summary.json").unlink()
        assert crawl(context, _loopback(port))["fetched"] == 2
    assert len(log) == requests
    assert len(list(read_pages(context.output / "warc"))) == 2


def test_caps_on_pages_and_depth_hold(make_site, tmp_path: Path):
    chain = {f"/{number}": _links(f"/{number + 1}", f"/{number}b") for number in range(9)}
    branches = {f"/{number}b": "leaf" for number in range(9)}
    folder = make_site({"/": _links("/0"), **chain, **branches})
    with serve(folder) as port:
        shallow = crawl(local_context("crawl", tmp_path / "depth"), _loopback(port, max_depth=3))
        few = crawl(local_context("crawl", tmp_path / "pages"), _loopback(port, max_pages=4))
    assert shallow["fetched"] == 1 + 3 + 2
    assert few["fetched"] == 4
    summaries = [json.loads((tmp_path / name / "output/summary.json").read_text()) for name in ("depth", "pages")]
    assert summaries[0]["pages"]["refused"] == {"depth": 2}
    assert summaries[1]["pages"]["refused"] == {"page cap": 2}


def test_long_bodies_and_bombs_are_refused(make_site, run_crawl, fates):
    bomb = gzip.compress(bytes(5000))
    encoded = {"headers": {"Content-Encoding": "gzip"}}
    wrong = {"headers": {"Content-Encoding": "br"}}
    folder = make_site(
        {
            "/": _links("/long", "/bomb", "/fits", "/wrong"),
            "/long": "x" * 2001,
            "/bomb": bomb,
            "/fits": bomb[:0],
            "/wrong": "x",
        }
        | {"/fits": gzip.compress(b"y" * 1900)},
        {"/bomb": encoded, "/fits": encoded, "/wrong": wrong},
    )
    ends = fates(run_crawl(folder, max_body_bytes=2000, max_inflated_bytes=2000))
    assert ends["/long"] == ends["/bomb"] == "refused too large"
    assert ends["/fits"] == "fetched"
    assert ends["/wrong"] == "failed content encoding"


def test_a_chain_of_redirects_is_followed_so_far_and_no_further(make_site, run_crawl, fates):
    hops = {f"/{number}": {"status": 302, "headers": {"Location": f"/{number + 1}"}} for number in range(9)}
    ends = fates(run_crawl(make_site({"/": _links("/0", "/7"), "/9": "end"}, hops), max_redirects=3))
    assert [ends[f"/{number}"] for number in range(4)] == ["redirected"] * 3 + ["failed redirects"]
    assert ends["/9"] == "fetched"
    assert "/5" not in ends


def test_a_page_that_never_answers_times_out_and_the_others_do_not_wait(make_site, run_crawl, fates):
    folder = make_site({"/": _links("/slow", "/a"), "/slow": "x", "/a": "x"}, {"/slow": {"delay_s": 30.0}})
    ends = fates(run_crawl(folder, timeout_s=2.0, retries=0))
    assert ends == {"/": "fetched", "/slow": "failed timeout", "/a": "fetched"}


@pytest.mark.parametrize(("times", "retries", "end"), [(2, 2, "fetched"), (3, 2, "failed status 503")])
def test_a_busy_page_is_tried_again_so_often(make_site, run_crawl, fates, times: int, retries: int, end: str):
    folder = make_site({"/": _links("/busy"), "/busy": "x"}, {"/busy": {"status": 503, "times": times}})
    assert fates(run_crawl(folder, retries=retries))["/busy"] == end


def test_retry_after_is_waited_for_by_the_whole_host_unless_it_is_too_long(make_site, tmp_path: Path):
    paths = [f"/{number}" for number in range(6)]
    folder = make_site(
        {"/": _links("/busy", "/never", *paths), "/busy": "x", **dict.fromkeys(paths, "x")},
        {
            "/busy": {"status": 429, "times": 1, "headers": {"Retry-After": "1"}},
            "/never": {"status": 404, "headers": {"Retry-After": "9999"}},
        },
    )
    log: list[Hit] = []
    with serve(folder, log) as port:
        crawl(local_context("crawl", tmp_path), _loopback(port, host_concurrency=1, backoff_s=0.0))
    refused = next(hit.time for hit in log if hit.status == 429)
    later = [hit.time for hit in log if hit.time > refused]
    assert len(later) == 8
    assert min(later) - refused >= 0.95


def test_a_wait_beyond_the_limit_gives_the_page_up(make_site, run_crawl, fates):
    behaviours = {"/busy": {"status": 503, "headers": {"Retry-After": "500"}}}
    folder = make_site({"/": _links("/busy")}, behaviours)
    assert fates(run_crawl(folder, max_retry_after_s=0.1))["/busy"] == "failed status 503"


def test_sitemaps_lead_to_pages_no_link_leads_to(make_site, run_crawl, fates):
    def listed(kind: str, *paths: str) -> bytes:
        rows = "".join(f"<{kind}><loc>{SAMPLE}{path}</loc></{kind}>" for path in paths)
        return f"<root>{rows}</root>".encode()

    folder = make_site(
        {
            "/": "front",
            "/robots.txt": f"User-agent: *\nDisallow: /closed\nSitemap: {SAMPLE}/index.xml\nSitemap: /relative.xml\n",
            "/index.xml": listed("sitemap", "/one.xml.gz", "/none.xml"),
            "/one.xml.gz": gzip.compress(listed("url", "/a", "/closed")),
            "/relative.xml": listed("url", "/b"),
            "/a": "x",
            "/b": "x",
        }
    )
    ends = fates(run_crawl(folder))
    assert ends["/a"] == ends["/b"] == ends["/one.xml.gz"] == "fetched"
    assert ends["/closed"] == "refused robots"
    assert ends["/none.xml"] == "failed status 404"


def test_a_host_whose_robots_cannot_be_read_is_closed(make_site, run_crawl):
    folder = make_site({"/": "x"}, {"/robots.txt": {"status": 503}})
    with pytest.raises(StepError, match=r"http://sample.headwater.test/: .*robots.txt answered 503"):
        run_crawl(folder)


@pytest.mark.parametrize(
    ("pages", "behaviours", "story"),
    [
        ({"/a": "x"}, {}, "failed: status 404"),
        ({"/": "x"}, {"/": {"status": 500}}, "failed: status 500"),
        ({"/": "x", "/robots.txt": "User-agent: *\nDisallow: /"}, {}, "refused: robots"),
        ({"/": "x"}, {"/": {"status": 301, "headers": {"Location": "http://e.com/"}}}, "redirected: to http://e.com/"),
        ({"/": "x"}, {"/": {"headers": {"Content-Type": "image/png"}}}, "refused: content type: image/png"),
    ],
)
def test_a_source_that_gives_nothing_is_an_error_with_the_reason(make_site, run_crawl, pages, behaviours, story: str):
    with pytest.raises(StepError) as failure:
        run_crawl(make_site(pages, behaviours), retries=0)
    assert story in failure.value.what
    assert "sample.headwater.test" in failure.value.what
    assert "crawl.seeds" in failure.value.fix


def test_a_host_that_does_not_answer_is_named(run_crawl):
    with pytest.raises(StepError, match="does not resolve"):
        run_crawl(None, seeds=("http://nobody.invalid/",), retries=0)


def test_records_lost_with_a_failing_machine_are_fetched_again(make_site, tmp_path: Path):
    paths = [f"/{number}" for number in range(5)]
    context = local_context("crawl", tmp_path)
    with serve(make_site({"/": _links(*paths), **dict.fromkeys(paths, "x" * 500)})) as port:
        crawl(context, _loopback(port))
        (lost,) = context.scratch.rglob("*.warc.gz")
        with lost.open("r+b") as file:
            file.truncate(lost.stat().st_size - 700)
        assert crawl(context, _loopback(port))["fetched"] == 6
    urls = [page.url for page in read_pages(context.output / "warc")]
    assert len(urls) == len(set(urls)) == 6


@pytest.mark.parametrize(
    "change",
    [
        *({"seeds": ()}, {"seeds": ("example.org",)}, {"seeds": ("ftp://e.com/",)}, {"hosts": ("http://e.com/",)}),
        *({"delay_s": -1.0}, {"max_pages": 0}, {"timeout_s": 0.0}, {"user_agent": "two words"}, {"contact": "a\r\nb"}),
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict[str, object]):
    with pytest.raises(ConfigError, match=f"crawl.{next(iter(change))}"):
        CrawlConfig(**change)  # type: ignore[arg-type]
