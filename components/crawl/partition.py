"""A crawl in parts: every host belongs to one part, and every part is crawled by one process at a time.

A part has a folder of its own with its frontier and its WARC files, and shares nothing while it runs. A link to another
part's host goes to an outbox in the frontier, in the same transaction as the page it stands on; at the end of a round
the outbox becomes files in the other parts' inboxes, which they read at the beginning of the next. A process may be
killed at any point of this: letters are delivered at least once, and to be told of a URL twice changes nothing.

Which part a host belongs to depends on its name alone, and what is fetched on a host, and from how deep, does not
depend on the order in which links are found. So one part and seven come to the same pages.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from components.crawl.config import CrawlConfig
from components.crawl.frontier import FEED, LIST_PRIORITY, Found, Frontier
from components.crawl.urls import host_of, normalise
from components.publish import publish

if TYPE_CHECKING:
    from components.crawl.recrawl import History
    from components.crawl.visits import Visits

_SEEDED, _LETTERS = "seeded", "letters"


@dataclass(frozen=True)
class Part:
    """One part of a crawl, to be crawled for a while.

    Attributes:
        config: The crawl's settings.
        folder: The crawl's folder in scratch.
        index: Number of the part.
        count: Number of parts.
        mapped: Ports on loopback that stand for hosts.
        previous: Artifact of an earlier crawl.
        max_pages: Pages this part may have at the end, those fetched before included.
        seconds: How long to go on; infinite for to the end.
    """

    config: CrawlConfig
    folder: Path
    index: int
    count: int
    mapped: Mapping[str, int] = field(default_factory=dict)
    previous: Path | None = None
    max_pages: int = 1 << 60
    seconds: float = math.inf

    @property
    def frontier(self) -> Path:
        """Its frontier's file."""
        return self.folder / f"part-{self.index:03d}" / "frontier.sqlite"

    @property
    def warc(self) -> Path:
        """Folder of its WARC files."""
        return self.folder / f"part-{self.index:03d}" / "warc"

    @property
    def inbox(self) -> Path:
        """Folder of the letters to it."""
        return self.folder / f"part-{self.index:03d}" / "inbox"

    def owns(self, host: str) -> bool:
        """Whether a host is its business."""
        return self.count == 1 or part_of(host, self.count) == self.index


@dataclass(frozen=True)
class Progress:
    """How far a part is.

    Attributes:
        ending: See `crawler`.
        counts: URLs by (kind, state, reason).
        more: Whether it has something that may be fetched.
        letters: URLs it has sent to others in this round.
    """

    ending: str
    counts: Counter[tuple[str, str, str]]
    more: bool
    letters: int


def part_of(host: str, count: int) -> int:
    """The part that a host belongs to."""
    return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "big") % count


def crawl_part(part: Part) -> Progress:
    """Crawls a part for a while, in a process that nobody speaks to."""
    return run_part(part, lambda: False, lambda frontier: None)


def run_part(part: Part, should_stop: Callable[[], bool], report: Callable[[Frontier], None]) -> Progress:
    """Crawls a part for a while: takes in what others found for it, fetches, sends what it found for others.

    Args:
        part: The part.
        should_stop: Asked about four times a second.
        report: Given the frontier about four times a second.
    """
    with closing(Frontier(part.frontier)) as frontier:
        ending = asyncio.run(_run(part, frontier, should_stop, report))
        letters = _send(part, frontier)
        more = bool(frontier.waiting_hosts(part.config.max_depth))
        return Progress(ending, frontier.counts, more, letters)


async def _run(
    part: Part, frontier: Frontier, should_stop: Callable[[], bool], report: Callable[[Frontier], None]
) -> str:
    from components.crawl.crawler import Crawler
    from components.crawl.fetch import Fetcher, Limits
    from components.crawl.recrawl import History
    from components.crawl.visits import Visits
    from components.crawl.warc import WarcWriter

    config = part.config
    version = importlib.metadata.version("headwater")
    agent = f"{config.user_agent}/{version}" + (f" (+{config.contact})" if config.contact else "")
    limits = Limits(config.max_body_bytes, config.max_inflated_bytes, config.timeout_s, config.max_inflation)
    about = {"software": f"headwater/{version}", "format": "WARC File Format 1.1", "http-header-user-agent": agent}
    prefix = "pages" if part.count == 1 else f"pages-{part.index:03d}"
    writer = WarcWriter(part.warc, _sound_records(frontier, part.warc), config.warc_mib << 20, about, prefix)
    until = time.monotonic() + part.seconds
    with closing(writer), History(part.previous) if part.previous else nullcontext() as history:
        async with Fetcher(agent, limits, config.allow_loopback, part.mapped, config.concurrency) as fetcher:
            crawler = Crawler(config, frontier, fetcher, should_stop, lambda: report(frontier), part.max_pages, until)
            visits = Visits(config, frontier, writer, history, part.owns, crawler.expect)
            _seed(part, frontier, visits, history)
            _receive(part, frontier, visits)
            return await crawler.run(visits)


def _seed(part: Part, frontier: Frontier, visits: Visits, history: History | None) -> None:
    """Takes up, once, the seeds, and what an earlier crawl had heard of."""
    if frontier.noted(_SEEDED):
        return
    seeds = (Found(url, 0, why="seed") for text in part.config.seeds if (url := normalise(text)))
    feeds = (
        Found(url, 0, FEED, 0, "", LIST_PRIORITY, "seed") for text in part.config.feeds if (url := normalise(text))
    )
    for source in (seeds, feeds, history.found() if history else ()):
        visits.receive(one for one in source if part.owns(host_of(one.url)))
    frontier.note(_SEEDED, "yes")
    frontier.commit()


def _receive(part: Part, frontier: Frontier, visits: Visits) -> None:
    """Reads the letters, and throws them away once what they say is safe."""
    letters = sorted(part.inbox.glob("*.jsonl"))
    for path in letters:
        visits.receive(_read_letter(path))
    frontier.commit()
    for path in letters:
        path.unlink()


def _read_letter(path: Path) -> Iterator[Found]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            url, depth, kind, hops, *rest = json.loads(line)
            yield Found(url, depth, kind, hops, "", *rest)


def _send(part: Part, frontier: Frontier) -> int:
    """Puts what was found for others into their inboxes; returns how many URLs."""
    if part.count == 1:
        return 0
    number = int(frontier.noted(_LETTERS) or 0)
    sent = 0
    with ExitStack() as stack:
        files: dict[int, IO[str]] = {}
        for one in frontier.unsent():
            target = part_of(host_of(one.url), part.count)
            if target not in files:
                inbox = Part(part.config, part.folder, target, part.count).inbox
                path = stack.enter_context(publish(inbox / f"{part.index:03d}-{number:08d}.jsonl"))
                files[target] = stack.enter_context(path.open("w", encoding="utf-8"))
            line = (one.url, one.depth, one.kind, one.hops, one.priority, one.why, one.via, one.news)
            files[target].write(json.dumps(line, ensure_ascii=True) + "\n")
            sent += 1
    if sent:
        frontier.note(_LETTERS, str(number + 1))
        frontier.mark_sent()
    return sent


def _sound_records(frontier: Frontier, folder: Path) -> dict[str, int]:
    """Where the committed records end, once those a power failure took from the files are forgotten."""
    for name, end in frontier.recorded().items():
        path = folder / name
        size = path.stat().st_size if path.exists() else 0
        if size < end:
            frontier.forget_records(name, size)
    return frontier.recorded()
