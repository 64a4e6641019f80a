"""One crawl in several parts: the same pages, each once, whatever is killed when."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from site_server import Site, serve_site

from components.context import LocalContext, Metrics, local_context
from components.crawl.config import CrawlConfig
from components.crawl.frontier import Found, Frontier
from components.crawl.partition import Part, _receive, _send, part_of
from components.crawl.step import crawl
from components.crawl.warc_read import read_pages

HOSTS = 5
Run = Callable[..., tuple[LocalContext, Metrics]]
_SCRIPT = """
import sys
from pathlib import Path
from components.context import local_context
from components.crawl.config import CrawlConfig
from components.crawl.step import crawl
hosts = tuple(f"127.0.0.{n}:{sys.argv[2]}" for n in range(1, 6))
config = CrawlConfig(seeds=(f"http://{hosts[0]}/",), hosts=hosts, allow_loopback=True, delay_s=0.0, backoff_s=0.01,
                     host_concurrency=2, workers=int(sys.argv[3]))
crawl(local_context("crawl", Path(sys.argv[1])), config)
"""


def _hosts(port: int) -> tuple[str, ...]:
    return tuple(f"127.0.0.{number}:{port}" for number in range(1, HOSTS + 1))


def _config(site: Site, **changes: object) -> CrawlConfig:
    base = {"seeds": (site.url(),), "hosts": _hosts(site.port), "allow_loopback": True, "delay_s": 0.0}
    return CrawlConfig(**{**base, "backoff_s": 0.01, "host_concurrency": 2, **changes})  # type: ignore[arg-type]


def _fill(site: Site, links: dict[tuple[int, int], list[tuple[int, int]]]) -> None:
    """Makes pages /n of hosts with links between them; the first host's /0 is its front page too."""
    site.pages.clear()
    for (host, number), targets in links.items():
        body = "".join(f'<a href="{site.url(f"/{page}", where)}">x</a>' for where, page in targets).encode()
        site.pages[f"127.0.0.{host}/{number}"] = body
        if (host, number) == (1, 0):
            site.pages["127.0.0.1/"] = body


def _random_links(seed: int, pages: int) -> dict[tuple[int, int], list[tuple[int, int]]]:
    draw = random.Random(seed)
    nodes = [(host, number) for host in range(1, HOSTS + 1) for number in range(pages)]
    return {node: draw.sample(nodes, 4) for node in nodes}


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_site(Site()) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, site: Site) -> Run:
    def crawl_once(name: str, **changes: object) -> tuple[LocalContext, Metrics]:
        context = local_context("crawl", tmp_path / name)
        return context, crawl(context, _config(site, **changes))

    return crawl_once


def _rows(context: LocalContext) -> list[tuple[object, ...]]:
    with sqlite3.connect(context.output / "frontier.sqlite") as database:
        query = "SELECT id, url, kind, depth, hops, priority, state, reason, status, digest FROM urls ORDER BY url"
        return database.execute(query).fetchall()


def _pages(context: LocalContext) -> list[tuple[str, bytes]]:
    return sorted((page.url, page.payload) for page in read_pages(context.output / "warc"))


def test_any_number_of_workers_comes_to_the_same_pages_and_frontier(run: Run, site: Site):
    _fill(site, _random_links(1, 12))
    one, _ = run("one")
    rows, pages = _rows(one), _pages(one)
    assert len(pages) > 50
    for workers in (2, 3, 5):
        site.log.clear()
        several, metrics = run(f"{workers}", workers=workers)
        assert _rows(several) == rows
        assert _pages(several) == pages
        asked = Counter((request.host, request.path) for request in site.log)
        assert set(asked.values()) == {1}
        assert metrics["fetched"] == len(pages)


def test_every_host_belongs_to_one_part(run: Run, site: Site):
    _fill(site, _random_links(2, 4))
    context, _ = run("three", workers=3)
    for path in context.scratch.rglob("part-*/frontier.sqlite"):
        index = int(path.parent.name.removeprefix("part-"))
        with sqlite3.connect(path) as database:
            hosts = [host for (host,) in database.execute("SELECT DISTINCT host FROM urls")]
        assert {part_of(host, 3) for host in hosts} <= {index}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 3))
def test_depth_is_the_shortest_way_whichever_way_is_quicker(
    tmp_path_factory: pytest.TempPathFactory, site: Site, seed: int, max_depth: int, workers: int
):
    draw = random.Random(seed)
    nodes = [(host, number) for host in range(1, HOSTS + 1) for number in range(4)]
    links = {node: draw.sample(nodes, draw.choice([0, 1, 1, 2])) for node in nodes}
    _fill(site, links)
    depths, ring = {(1, -1): 0}, [(1, -1)]
    while ring:
        node = ring.pop(0)
        for target in links[(1, 0) if node == (1, -1) else node]:
            if target not in depths:
                depths[target] = depths[node] + 1
                ring.append(target)
    site.delays = dict.fromkeys(draw.sample([f"127.0.0.{host}/{number}" for host, number in nodes], 4), 0.05)
    config = _config(site, workers=workers, max_depth=max_depth)
    context = local_context("crawl", tmp_path_factory.mktemp("depth"))
    crawl(context, config)
    fetched = {row[1]: row[3] for row in _rows(context) if row[6] == "fetched"}
    names = {node: site.url("/" if node[1] < 0 else f"/{node[1]}", node[0]) for node in depths}
    assert fetched == {names[node]: depth for node, depth in depths.items() if depth <= max_depth}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("moved", [False, True])
def test_a_shorter_way_found_late_still_leads_as_far_as_it_may(run: Run, site: Site, workers: int, moved: bool):
    def leads(path: str, *targets: tuple[str, int]) -> None:
        links = "".join(f'<a href="{site.url(target, host)}">x</a>' for target, host in targets)
        site.pages[path] = links.encode()

    leads("/", ("/long", 1), ("/late", 1))
    leads("/long", ("/longer", 1))
    leads("/longer", ("/there", 1))
    leads("/late", ("/there", 1))
    leads("/there", ("/leaf", 4))
    leads("/leaf", ("/beyond", 5))
    site.delays["/late"] = 0.5
    if moved:
        site.statuses["/there"], site.headers["/there"] = 302, {"Location": "/moved"}
        leads("/moved", ("/leaf", 4))
    context, _ = run("short", workers=workers, max_depth=3)
    ends = {row[1].rpartition("/")[2]: (row[3], row[6]) for row in _rows(context)}
    assert ends["there"] == (2, "redirected" if moved else "fetched")
    assert ends["leaf"] == (3, "fetched")
    assert ends["beyond"] == (4, "refused")


@pytest.mark.parametrize("pages", [1, 2, 7, 30])
def test_the_cap_on_pages_holds_over_all_parts(run: Run, site: Site, pages: int):
    _fill(site, _random_links(3, 8))
    _, metrics = run("capped", workers=3, max_pages=pages)
    assert metrics["fetched"] == pages


def test_a_crawl_goes_on_in_the_parts_it_began_with(site: Site, tmp_path: Path):
    _fill(site, _random_links(4, 8))
    context = local_context("crawl", tmp_path)
    first = crawl(context, _config(site, workers=3))
    requests = len(site.log)
    (context.output / "summary.json").unlink()
    assert crawl(context, _config(site, workers=2))["fetched"] == first["fetched"]
    assert len(site.log) == requests


def test_a_letter_that_comes_twice_changes_nothing(tmp_path: Path):
    parts = [Part(CrawlConfig(), tmp_path, index, 2) for index in range(2)]
    urls = [f"http://h{number}.com/" for number in range(20)]
    taken: list[list[Found]] = []

    class Taker:
        def receive(self, found: Iterator[Found]) -> None:
            taken.append(list(found))

    frontier, other = Frontier(parts[0].frontier), Frontier(parts[1].frontier)
    frontier.send(Found(url, 3, why="link", via="http://a/") for url in urls if not parts[0].owns(url.split("/")[2]))
    assert _send(parts[0], frontier) > 0
    assert _send(parts[0], frontier) == 0
    (letter,) = parts[1].inbox.iterdir()
    (parts[1].inbox / "000-00000009.jsonl").write_bytes(letter.read_bytes())
    _receive(parts[1], other, Taker())  # type: ignore[arg-type]
    assert taken[0] == taken[1]
    assert {one.url for one in taken[0]} == {url for url in urls if parts[1].owns(url.split("/")[2])}
    assert not list(parts[1].inbox.iterdir())


def _kill_at_random(site: Site, folder: Path, workers: int, kills: int, seed: int) -> None:
    """Starts the crawl again and again and kills it after a few more requests each time; then lets it end."""
    draw = random.Random(seed)
    command = [sys.executable, "-c", _SCRIPT, str(folder), str(site.port), str(workers)]
    for _ in range(kills):
        goal = len(site.log) + draw.randint(0, 12)
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while len(site.log) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, timeout=120)


def _check_after_kills(site: Site, folder: Path, workers: int, kills: int) -> None:
    _fill(site, _random_links(5, 40))
    _kill_at_random(site, folder, workers, kills, seed=workers)
    context = local_context("crawl", folder)
    asked = Counter((request.host, request.path) for request in site.log if request.path != "/robots.txt")
    again = sum(asked.values()) - len(asked)
    assert again <= kills * 2 * HOSTS  # At most those on their way at a kill: two to a host.
    pages = _pages(context)
    assert len(pages) == len(dict(pages)) == len(asked)
    before = dict(pages)
    site.log.clear()
    whole = local_context("crawl", folder.with_name("whole"))
    crawl(whole, _config(site))
    assert dict(_pages(whole)) == before
    assert _rows(whole) == _rows(context)


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_at_three_points_every_page_is_fetched_once(site: Site, tmp_path: Path, workers: int):
    _check_after_kills(site, tmp_path / "killed", workers, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_killed_at_twenty_points_every_page_is_fetched_once(site: Site, tmp_path: Path, workers: int):
    _check_after_kills(site, tmp_path / "killed", workers, kills=20)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_parts_on_a_cluster_come_to_the_same_pages(run: Run, site: Site, tmp_path: Path):
    from components.channel import Channel
    from pipelines.engine.ray_context import RayContext

    _fill(site, _random_links(6, 12))
    one, _ = run("one")
    folder = tmp_path / "ray"
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True)
    context = RayContext("crawl", folder / "output", folder / "scratch", Channel(folder))
    site.log.clear()
    crawl(context, _config(site, workers=3))
    assert _rows(context) == _rows(one)
    assert _pages(context) == _pages(one)
    assert set(Counter((request.host, request.path) for request in site.log).values()) == {1}
