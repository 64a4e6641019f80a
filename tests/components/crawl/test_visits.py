"""Large lists: a sitemap of fifty thousand URLs does not hold up the other hosts of a crawl."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from components.crawl.config import CrawlConfig
from components.crawl.fetch import Answer
from components.crawl.frontier import PAGE, SITEMAP, Found, Frontier
from components.crawl.visits import Visits
from components.crawl.warc import WarcWriter

PLACE = "http://a.example/sitemap.xml"


def sitemap_of(count: int) -> Answer:
    entries = (
        f"<url><loc>http://a.example/pages/{number}</loc><lastmod>2024-05-01</lastmod><priority>0.7</priority></url>"
        for number in range(count)
    )
    body = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{"".join(entries)}</urlset>'.encode()
    return Answer(PLACE, 200, "OK", [("Content-Type", "text/xml")], [], body, body, "127.0.0.1")


async def take(folder: Path, count: int) -> tuple[Frontier, float, int]:
    """Takes a sitemap beside a task that wants its turn always; the longest wait for one, and how many it had."""
    frontier = Frontier(folder / "frontier.sqlite")
    frontier.add([Found(PLACE, 0, SITEMAP)])
    entry = frontier.take("a.example", 1, 9, 0.0)[0]
    turns: list[float] = []

    async def neighbour() -> None:
        while True:
            turns.append(time.perf_counter())
            await asyncio.sleep(0)

    with closing(WarcWriter(folder / "warc", {}, 1 << 20, {})) as writer:
        visits = Visits(
            CrawlConfig(seeds=("http://a.example/",)), frontier, writer, None, lambda host: True, lambda hosts: None
        )
        beside = asyncio.create_task(neighbour())
        await asyncio.sleep(0)
        taking = visits.take(entry, sitemap_of(count), None)
        turns.clear()
        turns.append(time.perf_counter())
        await taking
        turns.append(time.perf_counter())
        beside.cancel()
    waits = [after - before for before, after in pairwise(turns)]
    return frontier, max(waits), len(turns)


def test_the_other_hosts_have_their_turn_while_a_long_sitemap_is_taken_up(tmp_path: Path):
    frontier, longest, turns = asyncio.run(take(tmp_path, 5_000))
    print(f"longest wait {1000 * longest:.0f} ms, {turns} turns")
    assert frontier.number(PAGE, "pending") == 5_000
    assert frontier.number(SITEMAP, "fetched") == 1
    assert turns >= 5_000 / 64
