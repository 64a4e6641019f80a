"""The crawl itself: one dispatcher, a lane for each host, everything that lasts in the frontier.

A single event loop runs it, so there are no locks: requests overlap, bookkeeping does not. A lane holds what politeness
needs: the host's robots.txt, when it may be asked again, how many requests are on their way. The dispatcher starts what
may start, sleeps until the next thing can happen, and ends when nothing is pending and nothing is on its way.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime

from components.crawl.config import CrawlConfig
from components.crawl.fetch import Answer, Fetcher, FetchError
from components.crawl.frontier import PAGE, SITEMAP, End, Entry, Found, Frontier
from components.crawl.links import page_links
from components.crawl.robots import Robots, read_robots
from components.crawl.sitemap import read_sitemap
from components.crawl.urls import host_of, join, looks_like_page, normalise, robots_url
from components.crawl.warc import WarcWriter

_BATCH = 64
_LOOK_AROUND_S = 0.25
_MAX_SITEMAP_DEPTH = 3
_RETRY_STATUSES = frozenset((429, 500, 502, 503, 504))
_BUSY_STATUSES = frozenset((429, 503))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_NOTHING = math.inf


@dataclass
class Lane:
    """One host's queue and manners.

    Attributes:
        host: Host, with its port unless it is the default one.
        robots: Its rules by URL of the robots.txt (http and https may differ).
        gap_s: Least time between the end of an answer and the next request.
        ready_at: Not before this reading of the monotonic clock.
        in_flight: Requests on their way.
        queue: URLs taken from the frontier, not yet started.
        look_at: When to look in the frontier again (seconds since 1970); None while there is nothing there.
    """

    host: str
    robots: dict[str, Robots] = field(default_factory=dict)
    gap_s: float = 0.0
    ready_at: float = 0.0
    in_flight: int = 0
    queue: deque[Entry] = field(default_factory=deque)
    look_at: float | None = 0.0

    def expect(self, due: float) -> None:
        """Notes that the frontier has something for this lane from `due` on."""
        self.look_at = due if self.look_at is None else min(due, self.look_at)


class Crawler:
    """Runs a crawl to its end, or until it is told to stop.

    Args:
        config: What to fetch and how gently.
        frontier: Where the crawl is; seeds must have been added.
        writer: Takes the answers.
        fetcher: Makes the requests.
        should_stop: Asked about four times a second.
        report: Called about four times a second.
    """

    def __init__(
        self,
        config: CrawlConfig,
        frontier: Frontier,
        writer: WarcWriter,
        fetcher: Fetcher,
        should_stop: Callable[[], bool],
        report: Callable[[], None],
    ) -> None:
        self._config = config
        self._frontier = frontier
        self._writer = writer
        self._fetcher = fetcher
        self._should_stop = should_stop
        self._report = report
        self._scope = scope_of(config)
        self._lanes = {host: Lane(host) for host in frontier.waiting_hosts(config.max_depth)}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pages_in_flight = 0
        self._wake = asyncio.Event()

    async def run(self) -> bool:
        """Crawls. Returns True at the end, False if it was told to stop; what was on its way then is not recorded."""
        try:
            async with asyncio.TaskGroup() as group:
                finished = await self._dispatch(group)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        for lane in self._lanes.values():
            for entry in lane.queue:
                self._frontier.put_back(entry, due=0.0, attempts=entry.attempts)
        if finished:
            self._frontier.refuse_rest("depth", deeper_than=self._config.max_depth)
            self._frontier.refuse_rest("page cap")
        self._frontier.commit()
        self._report()
        return finished

    async def _dispatch(self, group: asyncio.TaskGroup) -> bool:
        looked_at = -_LOOK_AROUND_S
        while True:
            if time.monotonic() - looked_at >= _LOOK_AROUND_S:
                looked_at = time.monotonic()
                self._report()
                if self._should_stop():
                    for task in self._tasks:
                        task.cancel()
                    return False
            self._wake.clear()
            wait_s = min((self._start(lane, group) for lane in list(self._lanes.values())), default=_NOTHING)
            if wait_s == _NOTHING and not self._tasks:
                return True
            try:
                async with asyncio.timeout(min(wait_s, _LOOK_AROUND_S)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _start(self, lane: Lane, group: asyncio.TaskGroup) -> float:
        """Starts what a lane may start now.

        Returns:
            Seconds until it may start more, if nothing else happens; `_NOTHING` if it is waiting for no moment.
        """
        width = 1 if lane.gap_s > 0 else self._config.host_concurrency
        while lane.in_flight < width and len(self._tasks) < self._config.concurrency and not self._at_page_cap():
            entry = self._next(lane)
            if entry is None:
                return _NOTHING if lane.look_at is None else max(0.0, lane.look_at - time.time())
            wait_s = lane.ready_at - time.monotonic()
            if wait_s > 0:
                return wait_s
            rules = robots_url(entry.url)
            if rules not in lane.robots:
                if lane.in_flight == 0:
                    self._launch(group, lane, self._learn(lane, rules))
                return _NOTHING
            lane.queue.popleft()
            self._pages_in_flight += entry.kind == PAGE
            self._launch(group, lane, self._visit(lane, entry))
        return _NOTHING

    def _at_page_cap(self) -> bool:
        return self._frontier.number(PAGE, "fetched") + self._pages_in_flight >= self._config.max_pages

    def _next(self, lane: Lane) -> Entry | None:
        """The URL at the head of a lane's queue; what robots.txt forbids is ended on the way there."""
        while True:
            now, depth = time.time(), self._config.max_depth
            if not lane.queue and lane.look_at is not None and lane.look_at <= now:
                lane.queue.extend(self._frontier.take(lane.host, _BATCH, depth, now))
                if not lane.queue:
                    lane.look_at = self._frontier.next_due(lane.host, depth)
            if not lane.queue:
                return None
            entry = lane.queue[0]
            rules = lane.robots.get(robots_url(entry.url))
            if rules is None or rules.allows(entry.url, self._config.user_agent):
                return entry
            lane.queue.popleft()
            self._frontier.end(entry, End("refused", "robots unreachable" if rules.closed else "robots", rules.closed))

    def _launch(self, group: asyncio.TaskGroup, lane: Lane, work: Coroutine[None, None, None]) -> None:
        lane.in_flight += 1
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._leave(lane, done))

    def _leave(self, lane: Lane, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        lane.in_flight -= 1
        lane.ready_at = max(lane.ready_at, time.monotonic() + lane.gap_s)
        self._wake.set()

    async def _learn(self, lane: Lane, rules_url: str) -> None:
        """Reads a robots.txt into its lane."""
        robots = await self._robots(rules_url)
        lane.robots[rules_url] = robots
        lane.gap_s = max(lane.gap_s, self._config.delay_s, robots.gap_s(self._config.user_agent))
        if self._config.sitemaps:
            sitemaps = [url for url in (join(rules_url, one) for one in robots.sitemaps()) if url]
            self._add(sitemaps, depth=0, kind=SITEMAP)
            self._frontier.commit()

    async def _robots(self, rules_url: str) -> Robots:
        url, attempt, hops = rules_url, 0, 0
        while True:
            try:
                answer = await self._fetcher.get(url)
            except FetchError as error:
                robots = Robots(closed=f"robots.txt: {error.detail}")
                if not error.transient:
                    return robots
            else:
                target = join(url, answer.header("location")) if answer.status in _REDIRECTS else None
                if target is not None and hops < self._config.max_redirects:
                    url, hops = target, hops + 1
                    continue
                robots = read_robots(answer.status, answer.body)
            if not robots.closed or attempt == self._config.retries:
                return robots
            await asyncio.sleep(self._config.backoff_s * 2**attempt)
            attempt += 1

    async def _visit(self, lane: Lane, entry: Entry) -> None:
        """Fetches one URL and notes what became of it."""
        try:
            answer = await self._fetcher.get(entry.url, self._config.content_types if entry.kind == PAGE else ())
        except FetchError as error:
            if error.transient:
                self._try_again(lane, entry, End("failed", error.reason, error.detail), None)
            else:
                self._frontier.end(entry, End("refused" if error.refused else "failed", error.reason, error.detail))
        else:
            self._take_answer(lane, entry, answer)
        finally:
            self._pages_in_flight -= entry.kind == PAGE
        self._frontier.commit()

    def _take_answer(self, lane: Lane, entry: Entry, answer: Answer) -> None:
        if answer.status in _RETRY_STATUSES and entry.attempts < self._config.retries:
            wait_s = retry_after(answer.header("retry-after"), time.time())
            if answer.status in _BUSY_STATUSES:
                pause_s = min(self._backoff_s(entry) if wait_s is None else wait_s, self._config.max_retry_after_s)
                lane.ready_at = max(lane.ready_at, time.monotonic() + pause_s)
            self._try_again(lane, entry, self._ended(answer, "failed", f"status {answer.status}"), wait_s)
        elif answer.status in _REDIRECTS:
            self._redirect(entry, answer)
        elif answer.status != 200:
            self._end(entry, answer, "failed", f"status {answer.status}")
        elif entry.kind == SITEMAP:
            sitemap = read_sitemap(answer.body)
            nested = sitemap.sitemaps if entry.depth < _MAX_SITEMAP_DEPTH else []
            self._add(filter(None, map(normalise, sitemap.pages)), depth=1)
            self._add(filter(None, map(normalise, nested)), depth=entry.depth + 1, kind=SITEMAP)
            self._end(entry, answer, "fetched", "", sitemap.fault)
        else:
            links = page_links(answer.body, answer.header("content-type"), entry.url)
            self._add(links, depth=entry.depth + 1)
            self._end(entry, answer, "fetched")

    def _redirect(self, entry: Entry, answer: Answer) -> None:
        target = join(entry.url, answer.header("location"))
        if target is None or target == entry.url:
            self._end(entry, answer, "failed", "redirect", f"leads to {answer.header('location')[:200]!r}")
        elif entry.hops >= self._config.max_redirects:
            self._end(entry, answer, "failed", "redirects", f"more than {self._config.max_redirects} in a row")
        else:
            self._add([target], depth=entry.depth, kind=entry.kind, hops=entry.hops + 1)
            self._end(entry, answer, "redirected", "", f"to {target}")

    def _try_again(self, lane: Lane, entry: Entry, end: End, wait_s: float | None) -> None:
        wait_s = self._backoff_s(entry) if wait_s is None else wait_s
        if entry.attempts >= self._config.retries:
            self._frontier.end(entry, end)
        elif wait_s > self._config.max_retry_after_s:
            self._frontier.end(entry, replace(end, detail=f"asks to wait {wait_s:.0f} s"))
        else:
            due = time.time() + wait_s
            self._frontier.put_back(entry, due, entry.attempts + 1)
            lane.expect(due)

    def _backoff_s(self, entry: Entry) -> float:
        return float(self._config.backoff_s * 2**entry.attempts)

    def _end(self, entry: Entry, answer: Answer, state: str, reason: str = "", detail: str = "") -> None:
        """Records an answer, pages in the WARC too, before the frontier knows of it."""
        end = self._ended(answer, state, reason, detail)
        position = self._writer.write(answer) if entry.kind == PAGE else None
        self._frontier.end(entry, replace(end, position=position))

    def _ended(self, answer: Answer, state: str, reason: str, detail: str = "") -> End:
        return End(
            state=state,
            reason=reason,
            detail=detail,
            status=answer.status,
            etag=answer.header("etag") or None,
            last_modified=answer.header("last-modified") or None,
            digest=hashlib.sha256(answer.body).hexdigest(),
            body_bytes=len(answer.body),
        )

    def _add(self, urls: Iterable[str], depth: int, kind: str = PAGE, hops: int = 0) -> None:
        found = (Found(url, depth, kind, hops, self._refusal(url, kind)) for url in urls)
        for host in self._frontier.add(found):
            self._lanes.setdefault(host, Lane(host)).expect(0.0)

    def _refusal(self, url: str, kind: str) -> str:
        """Why a URL is not even to be tried; empty if it is."""
        if host_of(url) not in self._scope:
            return "scope"
        if len(url) > self._config.max_url_chars:
            return "URL length"
        return "file type" if kind == PAGE and not looks_like_page(url) else ""


def scope_of(config: CrawlConfig) -> frozenset[str]:
    """Hosts a crawl may visit: those of its seeds and those it names."""
    urls = (normalise(url) for url in (*config.seeds, *(f"http://{host}/" for host in config.hosts)))
    return frozenset(host_of(url) for url in urls if url)


def retry_after(header: str, now: float) -> float | None:
    """Seconds a Retry-After header asks to wait; None if it is absent or unreadable.

    Args:
        header: Its value: a number of seconds or an HTTP date.
        now: Time of day, seconds since 1970.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
