"""The crawl itself: one dispatcher, a lane for each host, everything that lasts in the frontier.

A single event loop runs it, so there are no locks: requests overlap, bookkeeping does not. The dispatcher starts what
may start, sleeps until the next thing can happen, and ends when nothing is pending and nothing is on its way. What an
answer means is the business of `visits`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from components.crawl.config import CrawlConfig
from components.crawl.fetch import Answer, Fetcher, FetchError
from components.crawl.frontier import FEED, PAGE, SITEMAP, End, Entry, Frontier, RobotsAnswer
from components.crawl.lanes import Lane, Rota, open_lane, read_manners
from components.crawl.robots import MAX_ROBOTS_BYTES, read_robots
from components.crawl.urls import join, robots_url
from components.crawl.visits import BUSY, REDIRECTS, Visits

DONE, STOPPED, PAUSED = "done", "stopped", "paused"
"""How a crawl ends: nothing is left that may be fetched; it was told to stop; its time is up."""

_BATCH = 16
_LOOK_AROUND_S = 0.25
_PAUSE_STATUSES = frozenset((429, 503))
_NOTHING = math.inf


class Crawler:
    """Runs a crawl, or one part's share of it, until nothing is left, it is told to stop, or its time is up.

    Args:
        config: What to fetch and how gently.
        frontier: Where the crawl is; seeds must have been added.
        fetcher: Makes the requests.
        visits: Books the answers; made with this crawler's `expect`.
        should_stop: Asked about four times a second.
        report: Called about four times a second.
        max_pages: Fetched pages in the frontier at most.
        until: Reading of the monotonic clock from which on nothing is started any more.
    """

    def __init__(
        self,
        config: CrawlConfig,
        frontier: Frontier,
        fetcher: Fetcher,
        should_stop: Callable[[], bool],
        report: Callable[[], None],
        max_pages: int,
        until: float = math.inf,
    ) -> None:
        self._config = config
        self._frontier = frontier
        self._fetcher = fetcher
        self._should_stop = should_stop
        self._report = report
        self._max_pages = max_pages
        self._until = until
        self._lanes: dict[str, Lane] = {}
        self._rota = Rota()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pages_in_flight = 0
        self._whole: set[int] = set()
        self._wake = asyncio.Event()

    def expect(self, hosts: Mapping[str, int]) -> None:
        """Notes that the frontier has something for these hosts, and how that ranks."""
        for host, priority in hosts.items():
            self._rota.nudge(host)
            lane = self._lanes.get(host)
            if lane is not None:
                lane.expect(0.0)
                if lane.queue and priority > lane.queue[-1].priority:
                    self._put_back(lane)

    def _put_back(self, lane: Lane) -> None:
        """Gives back what a lane has not started."""
        while lane.queue:
            entry = lane.queue.popleft()
            self._frontier.put_back(entry, due=0.0, attempts=entry.attempts)

    async def run(self, visits: Visits) -> str:
        """Crawls. Returns how it ended; what was on its way when it was told to stop is not recorded."""
        self._visits = visits
        self.expect(dict.fromkeys(self._frontier.waiting_hosts(self._config.max_depth), 0))
        try:
            async with asyncio.TaskGroup() as group:
                ending = await self._dispatch(group)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        for lane in self._lanes.values():
            self._put_back(lane)
        self._frontier.commit()
        self._report()
        return ending

    async def _dispatch(self, group: asyncio.TaskGroup) -> str:
        looked_at = -_LOOK_AROUND_S
        while True:
            if time.monotonic() - looked_at >= _LOOK_AROUND_S:
                looked_at = time.monotonic()
                self._report()
                if self._should_stop():
                    for task in self._tasks:
                        task.cancel()
                    return STOPPED
            self._wake.clear()
            late = time.monotonic() >= self._until
            wait_s = _NOTHING if late else self._start_all(group)
            if wait_s == _NOTHING and not self._tasks:
                if late or not self._visits.follow_shorter_ways():
                    return PAUSED if late else DONE
                wait_s = 0.0
            try:
                async with asyncio.timeout(min(wait_s, _LOOK_AROUND_S)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _start_all(self, group: asyncio.TaskGroup) -> float:
        """Starts what may start now; returns the seconds until more may, `_NOTHING` if that takes another event."""
        for _ in range(_BATCH):
            if self._is_full():
                return _NOTHING
            host = self._rota.next()
            if host is None:
                break
            lane = self._lanes.get(host) or self._lanes.setdefault(host, open_lane(host, self._frontier))
            wait_s = self._start(lane, group)
            if wait_s < _NOTHING:
                self._rota.nudge_in(host, wait_s)
            elif self._is_full():
                self._rota.nudge(host)
            elif lane.is_idle():
                del self._lanes[host]
        return self._rota.next_in_s()

    def _is_full(self) -> bool:
        """Whether no further request may be on its way."""
        return len(self._tasks) >= self._config.concurrency or self._at_page_cap()

    def _start(self, lane: Lane, group: asyncio.TaskGroup) -> float:
        """Starts what a lane may start now.

        Returns:
            Seconds until it may start more, if nothing else happens; `_NOTHING` if it is waiting for no moment.
        """
        width = 1 if lane.gap_s > 0 else self._config.host_concurrency
        settled = 0
        while lane.in_flight < width and not self._is_full():
            entry = self._next(lane)
            if entry is None:
                return _NOTHING if lane.look_at is None else max(0.0, lane.look_at - time.time())
            if self._host_is_full(lane, entry):
                return _NOTHING
            rules = robots_url(entry.url)
            manners = lane.manners.get(rules)
            known = manners is not None and manners.hold(time.time())
            if known and not self._visits.is_due(entry):
                if lane.lists_in_flight:
                    return _NOTHING
                lane.queue.popleft()
                lane.fetched += self._visits.settle(entry)
                settled += 1
                if settled == _BATCH:
                    self._frontier.commit()
                    return 0.0
                continue
            wait_s = lane.ready_in_s()
            if wait_s > 0:
                return wait_s
            if not known:
                if lane.in_flight == 0:
                    self._launch(group, lane, self._learn(lane, rules))
                return _NOTHING
            lane.queue.popleft()
            self._launch(group, lane, self._visit(lane, entry), entry.kind)
        return _NOTHING

    def _at_page_cap(self) -> bool:
        return self._frontier.number(PAGE, "fetched") + self._pages_in_flight >= self._max_pages

    def _host_is_full(self, lane: Lane, entry: Entry) -> bool:
        """Whether so many pages of a host are had, or on their way, as may be."""
        most = self._config.max_pages_per_host
        return bool(most) and entry.kind == PAGE and lane.fetched + lane.pages_in_flight >= most

    def _next(self, lane: Lane) -> Entry | None:
        """The URL at the head of a lane's queue; what may not be fetched is ended on the way there."""
        while True:
            now, depth = time.time(), self._config.max_depth
            if not lane.queue and lane.look_at is not None and lane.look_at <= now:
                lane.queue.extend(self._frontier.take(lane.host, _BATCH, depth, now))
                if not lane.queue:
                    lane.look_at = self._frontier.next_due(lane.host, depth)
            if not lane.queue:
                return None
            entry = lane.queue[0]
            refusal, detail = self._refusal(lane, entry)
            if not refusal:
                return entry
            lane.queue.popleft()
            if refusal == "robots unreachable":
                self._visits.give_up(entry, End("refused", refusal, detail))
            else:
                self._visits.refuse(entry, refusal, detail)

    def _refusal(self, lane: Lane, entry: Entry) -> tuple[str, str]:
        """Why a URL may not be fetched, in short and at length; empty if it may."""
        most = self._config.max_pages_per_host
        if most and entry.kind == PAGE and lane.fetched >= most:
            return "host cap", f"more than {most} pages"
        manners = lane.manners.get(robots_url(entry.url))
        if manners is None or not manners.hold(time.time()):
            return "", ""
        return manners.refusal(entry.url, self._config.user_agent), manners.robots.closed

    def _launch(self, group: asyncio.TaskGroup, lane: Lane, work: Coroutine[None, None, None], kind: str = "") -> None:
        self._count(lane, kind, 1)
        if lane.gap_s > 0:  # Before the request leaves, so that a crawl killed now keeps the gap when it goes on.
            self._frontier.note_host(lane.host, time.time() + lane.gap_s)
            self._frontier.commit()
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._leave(lane, done, kind))

    def _leave(self, lane: Lane, task: asyncio.Task[None], kind: str) -> None:
        self._tasks.discard(task)
        self._count(lane, kind, -1)
        lane.pause(lane.gap_s)
        wait_s = lane.ready_in_s()
        if wait_s > 0:
            self._frontier.note_host(lane.host, time.time() + wait_s)
        self._rota.nudge(lane.host)
        self._wake.set()

    def _count(self, lane: Lane, kind: str, change: int) -> None:
        """Counts a request on its way, by what it is for; none of the kinds for robots.txt."""
        lane.in_flight += change
        lane.pages_in_flight += change * (kind == PAGE)
        lane.lists_in_flight += change * (kind in (SITEMAP, FEED))
        self._pages_in_flight += change * (kind == PAGE)

    async def _learn(self, lane: Lane, rules_url: str) -> None:
        """Reads a robots.txt into its lane."""
        answer = self._frontier.robots_answer(rules_url)
        if answer is None or not read_manners(answer, self._config).hold(time.time()):
            answer = await self._robots(rules_url)
            if not answer.closed:
                self._frontier.note_robots(rules_url, answer)
        manners = lane.manners[rules_url] = read_manners(answer, self._config)
        lane.gap_s = max(lane.gap_s, self._config.delay_s, manners.robots.gap_s(self._config.user_agent))
        if self._config.sitemaps:
            sitemaps = [url for url in (join(rules_url, one) for one in manners.robots.sitemaps()) if url]
            self._visits.add_lists(sitemaps, SITEMAP, 0, "robots", rules_url)
        self._frontier.commit()

    async def _robots(self, rules_url: str) -> RobotsAnswer:
        """Asks for a robots.txt, following redirects, until there is an answer or no try is left."""
        url, attempt, hops = rules_url, 0, 0
        while True:
            now = time.time()
            try:
                answer = await self._fetcher.get(url)
            except FetchError as error:
                found = RobotsAnswer(0, b"", f"robots.txt: {error.detail}", now)
                if not error.transient:
                    return found
            else:
                target = join(url, answer.header("location")) if answer.status in REDIRECTS else None
                if target is not None and hops < self._config.max_redirects:
                    url, hops = target, hops + 1
                    continue
                closed = read_robots(answer.status, b"").closed
                found = RobotsAnswer(answer.status, answer.body[:MAX_ROBOTS_BYTES], closed, now)
            if not found.closed or attempt == self._config.retries:
                return found
            await asyncio.sleep(self._config.backoff_s * 2**attempt)
            attempt += 1

    async def _visit(self, lane: Lane, entry: Entry) -> None:
        """Fetches one URL and notes what became of it."""
        before = self._visits.earlier(entry)
        types = self._config.content_types if entry.kind == PAGE else ()
        try:
            validators = before.validators() if before and entry.id not in self._whole else {}
            answer = await self._fetcher.get(entry.url, types, validators)
        except FetchError as error:
            if error.transient:
                self._try_again(lane, entry, End("failed", error.reason, error.detail), None)
            elif error.refused:
                self._visits.refuse(entry, error.reason, error.detail, visited=error.reason == "content type")
            else:
                self._frontier.end(entry, End("failed", error.reason, error.detail))
        else:
            fetched = self._frontier.number(PAGE, "fetched")
            if answer.status in BUSY and entry.attempts < self._config.retries:
                self._take_busy(lane, entry, answer)
            elif validators and self._visits.says_more(answer, before):
                self._whole.add(entry.id)
                self._frontier.put_back(entry, due=0.0, attempts=entry.attempts)
                lane.expect(0.0)
            else:
                self._whole.discard(entry.id)
                await self._visits.take(entry, answer, before if validators else None)
            if entry.kind == PAGE:  # Other hosts' pages end while a list is taken up; a page is taken up in one go.
                lane.fetched += self._frontier.number(PAGE, "fetched") - fetched
        self._frontier.commit()

    def _take_busy(self, lane: Lane, entry: Entry, answer: Answer) -> None:
        wait_s = retry_after(answer.header("retry-after"), time.time())
        if answer.status in _PAUSE_STATUSES:
            pause_s = self._backoff_s(entry) if wait_s is None else wait_s
            lane.pause(min(pause_s, self._config.max_retry_after_s))
        self._try_again(lane, entry, self._visits.ended(answer, "failed", f"status {answer.status}"), wait_s)

    def _try_again(self, lane: Lane, entry: Entry, end: End, wait_s: float | None) -> None:
        wait_s = self._backoff_s(entry) if wait_s is None else wait_s
        if entry.attempts >= self._config.retries:
            self._visits.give_up(entry, end)
        elif wait_s > self._config.max_retry_after_s:
            self._visits.give_up(entry, replace(end, detail=f"asks to wait {wait_s:.0f} s"))
        else:
            due = time.time() + wait_s
            self._frontier.put_back(entry, due, entry.attempts + 1)
            lane.expect(due)

    def _backoff_s(self, entry: Entry) -> float:
        return float(self._config.backoff_s * 2**entry.attempts)


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
