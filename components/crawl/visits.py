"""What becomes of a URL: the answers it may get, what they lead to, and how it all is written down.

Every method ends a URL or puts it back, and does so in one order: WARC first, frontier second, `commit` by the caller.
With an earlier crawl at hand (`History`), a page that is not due, has not changed or cannot be had just now keeps its
earlier record.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from components.crawl.config import CrawlConfig
from components.crawl.feeds import named_feeds, read_feed, time_of
from components.crawl.fetch import Answer
from components.crawl.frontier import FEED, LINK_PRIORITY, LIST_PRIORITY, PAGE, SITEMAP, End, Entry, Found, Frontier
from components.crawl.links import page_links
from components.crawl.recrawl import WISHES, Earlier, History, timed, unchanged
from components.crawl.scope import Scope
from components.crawl.sitemap import read_sitemap
from components.crawl.urls import host_of, join, normalise
from components.crawl.warc import IDENTICAL, NOT_MODIFIED, Origin, WarcWriter, headers_of, read_links

BUSY = frozenset((429, 500, 502, 503, 504))
"""Statuses that another try may better."""
REDIRECTS = frozenset((301, 302, 303, 307, 308))
NOT_CHANGED = 304
_MAX_SITEMAP_DEPTH = 3
_FAR = 1 << 30
_MOST_CHANGES = 20
_MANY = 512
_PORTION = 64
"""URLs of a list that are taken up before other tasks have their turn."""


@dataclass(frozen=True)
class Hint:
    """What a list says of a page: how it ranks (0 to 100) and when it changed (seconds since 1970; 0 unknown)."""

    priority: int = LINK_PRIORITY
    news: float = 0.0


class Visits:
    """Books what a crawl, or its part, finds.

    Args:
        config: The crawl's settings.
        frontier: Where it is noted.
        writer: Takes the answers.
        history: The earlier crawl, if there is one.
        is_ours: Whether a host is this part's business; what is not is noted for the others.
        expect: Told of hosts that may have something more to fetch, and how it ranks.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        config: CrawlConfig,
        frontier: Frontier,
        writer: WarcWriter,
        history: History | None,
        is_ours: Callable[[str], bool],
        expect: Callable[[Mapping[str, int]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._frontier = frontier
        self._writer = writer
        self._history = history
        self._is_ours = is_ours
        self._expect = expect
        self._now = now
        self._scope = Scope(config)

    # What is found.

    def receive(self, found: Iterable[Found]) -> None:
        """Takes up URLs with all that is known of them; those of other parts' hosts are noted for these."""
        rest = iter(found)
        while batch := list(islice(rest, _MANY)):
            own = [self._ranked(one) for one in batch if self._is_ours(host_of(one.url))]
            self._frontier.send(one for one in batch if not self._is_ours(host_of(one.url)))
            self._expect(self._frontier.add(own))

    def _ranked(self, one: Found) -> Found:
        """A URL of ours with what our rules say of it."""
        priority = self._scope.priority(one.url, one.priority) if one.kind == PAGE else LIST_PRIORITY
        refusal = self._scope.refusal(one.url, one.kind)
        return replace(one, refusal=refusal, priority=priority) if refusal or priority != one.priority else one

    def add_lists(self, urls: Iterable[str], kind: str, depth: int, why: str, via: str) -> None:
        """Takes up sitemaps or feeds."""
        self.receive(Found(url, depth, kind, why=why, via=via) for url in urls)

    async def _receive_in_portions(self, found: Iterable[Found]) -> None:
        """Takes up the URLs of a list, which may be fifty thousand: the other hosts go on between two portions.

        A commit of theirs may keep the first portions alone. That is as it must be: the list has not ended then, and
        is read again by a crawl that goes on from there.
        """
        rest = iter(found)
        while batch := list(islice(rest, _PORTION)):
            self.receive(batch)
            await asyncio.sleep(0)

    def _add_links(self, urls: Iterable[str], depth: int, via: str) -> None:
        known = self._frontier.known
        self.receive(Found(url, depth, via=via) for url in urls if known.get(url, _FAR) > depth)

    async def _add_listed(self, pages: Mapping[str, Hint], depth: int, why: str, via: str) -> None:
        await self._receive_in_portions(
            Found(url, depth, PAGE, 0, "", hint.priority, why, via, hint.news) for url, hint in pages.items()
        )

    def follow_shorter_ways(self) -> bool:
        """Takes up again what lies behind pages to which a shorter way was found after they were fetched.

        So the depth of a page does not depend on which of two ways to it was quicker. Returns whether there were any.
        """
        ways = self._frontier.shorter_ways(_MANY)
        for url, depth, state, detail, place in ways:
            if state == "redirected":
                self.receive([Found(detail.removeprefix("to "), depth, why="redirect", via=url, hops=1 << 20)])
            elif place is not None:
                links, feeds = read_links(self._writer.folder, place)
                self.add_lists(feeds, FEED, depth + 1, "link", url)
                self._add_links(links, depth + 1, url)
        return bool(ways)

    # What needs no asking.

    def earlier(self, entry: Entry) -> Earlier | None:
        """What an earlier crawl knows of a URL."""
        return self._history.of(entry.url) if self._history else None

    def is_due(self, entry: Entry) -> bool:
        """Whether it is time to ask for a URL; False only if an earlier crawl tells how it ends otherwise."""
        before = self.earlier(entry)
        if before is None or entry.kind != PAGE or before.kind != PAGE:
            return True
        now = self._now()
        lost = before.state == "fetched" and not before.kept
        if lost or before.due(now, 0.0):
            return True
        news = self._frontier.news_of(entry)  # Not the entry's own: a sitemap may have come since it was handed out.
        return before.due(now, news if news <= now else 0.0)

    def settle(self, entry: Entry) -> bool:
        """Ends a URL that is not due as it ended before. Returns whether that gave a page."""
        before = self.earlier(entry)
        if before is None:
            raise ValueError(f"{entry.url} has no earlier end")
        self._keep(entry, before, End(before.state, "not due" if before.kept else before.reason, "not due"))
        return before.kept

    def give_up(self, entry: Entry, end: End) -> None:
        """Ends a URL that could not be had just now; a page that an earlier crawl has is kept as it was."""
        before = self.earlier(entry)
        if before is not None and before.kept and entry.kind == PAGE:
            reason = ", ".join(part for part in (end.reason, end.detail) if part)
            self._keep(entry, before, End("fetched", "stale", reason))
        else:
            self._frontier.end(entry, end)

    def refuse(self, entry: Entry, reason: str, detail: str = "", visited: bool = False) -> None:
        """Ends a URL that a rule of ours forbids."""
        end = End("refused", reason, detail)
        if visited:
            self._book(entry, end, self.earlier(entry))
        else:
            self._frontier.end(entry, end)

    def _keep(self, entry: Entry, before: Earlier, end: End) -> None:
        """Ends a URL as an earlier crawl left it, its record taken over."""
        position = None
        if before.kept and self._history is not None:
            position = self._writer.carry(self._history.record(before), entry.url)
        self._frontier.end(entry, replace(_as_before(end, before), position=position))
        self._take_changes(entry.url)

    # What was answered.

    async def take(self, entry: Entry, answer: Answer, before: Earlier | None) -> None:
        """Ends a URL that was answered.

        Args:
            entry: The URL.
            answer: The answer; one that would be reason to try again was the last try.
            before: What an earlier crawl knows of it, if its validators were sent along.
        """
        if answer.status in BUSY:
            self._take_failure(entry, answer)
        elif answer.status in REDIRECTS:
            self._redirect(entry, answer)
        elif answer.status == NOT_CHANGED and before is not None and before.validators():
            self._take_unchanged(entry, answer, before)
        elif answer.status != 200:
            self._end(entry, answer, "failed", f"status {answer.status}")
        elif entry.kind == SITEMAP:
            await self._take_sitemap(entry, answer)
        elif entry.kind == FEED:
            await self._take_feed(entry, answer)
        else:
            self._take_page(entry, answer)

    def _wishes_differ(self, answer: Answer, before: Earlier) -> bool:
        """Whether an answer's headers say otherwise than those of the record what may be done with the page."""
        if self._history is None:
            return False
        then = headers_of(self._history.record(before), before.url)
        now = [(name.lower(), value) for name, value in answer.headers]
        return {one for one in now if one[0] in WISHES} != {one for one in then if one[0] in WISHES}

    def says_more(self, answer: Answer, before: Earlier | None) -> bool:
        """Whether a 304 tells of other wishes of the owner's than the record it stands for.

        The page is as it was, but what may be done with it is not: it is to be fetched whole, so that its record has
        the new headers. A header that a 304 leaves out is no news.
        """
        if answer.status != NOT_CHANGED or before is None or not before.kept or self._history is None:
            return False
        said = [(name.lower(), value) for name, value in answer.headers if name.lower() in WISHES]
        return bool(said) and not set(said) <= set(headers_of(self._history.record(before), before.url))

    def _take_failure(self, entry: Entry, answer: Answer) -> None:
        """A server in trouble: nothing was learnt of the page, so it stays due."""
        before, end = self.earlier(entry), self.ended(answer, "failed", f"status {answer.status}")
        if before is not None and before.kept:
            self.give_up(entry, End("failed", end.reason))
        else:
            position = self._writer.write(answer, _origin(entry)) if entry.kind == PAGE else None
            self._frontier.end(entry, replace(end, position=position))

    def _take_page(self, entry: Entry, answer: Answer) -> None:
        links = page_links(answer.body, answer.header("content-type"), entry.url)
        feeds = named_feeds(answer.body, entry.url) if self._config.find_feeds else []
        self.add_lists(feeds, FEED, entry.depth + 1, "link", entry.url)
        self._add_links(links, entry.depth + 1, entry.url)
        origin = _origin(entry, links, feeds)
        before = self.earlier(entry)
        end = self.ended(answer, "fetched")
        same = before is not None and before.kept and unchanged(end, before) and not self._wishes_differ(answer, before)
        if not same or before is None or self._history is None:
            self._book(entry, replace(end, position=self._writer.write(answer, origin)), before)
            return
        place = self._writer.write_revisit(answer, IDENTICAL, self._history.record(before), origin)
        self._book(entry, replace(end, reason="same body", position=place), before)

    def _take_unchanged(self, entry: Entry, answer: Answer, before: Earlier) -> None:
        place = None
        if before.kept and self._history is not None and entry.kind == PAGE:
            record = self._history.record(before)
            place = self._writer.write_revisit(answer, NOT_MODIFIED, record, _origin(entry))
        end = _as_before(End("fetched", "not modified"), before)
        etag, modified = answer.header("etag") or end.etag, answer.header("last-modified") or end.last_modified
        self._book(entry, replace(end, etag=etag, last_modified=modified, position=place), before)

    async def _take_sitemap(self, entry: Entry, answer: Answer) -> None:
        sitemap = await asyncio.to_thread(read_sitemap, answer.body)
        pages: dict[str, Hint] = {}
        for number, text in enumerate(sitemap.pages):
            if number % _MANY == _MANY - 1:
                await asyncio.sleep(0)
            url, said = normalise(text), sitemap.hints.get(text)
            if url is not None:
                rank = LINK_PRIORITY if said is None else _rank(said.priority)
                pages[url] = Hint(rank, 0.0 if said is None else time_of(said.changed))
        await self._add_listed(pages, 1, "sitemap", entry.url)
        if entry.depth < _MAX_SITEMAP_DEPTH:
            nested = filter(None, map(normalise, sitemap.sitemaps))
            lists = (Found(url, entry.depth + 1, SITEMAP, why="sitemap", via=entry.url) for url in nested)
            await self._receive_in_portions(lists)
        self._end(entry, answer, "fetched", "", sitemap.fault)

    async def _take_feed(self, entry: Entry, answer: Answer) -> None:
        feed = read_feed(answer.body)
        pages = {url: Hint(news=time_of(said)) for text, said in feed.pages if (url := join(entry.url, text))}
        await self._add_listed(pages, entry.depth + 1, "feed", entry.url)
        self._end(entry, answer, "fetched", "", feed.fault)

    def _redirect(self, entry: Entry, answer: Answer) -> None:
        target = join(entry.url, answer.header("location"))
        if target is None or target == entry.url:
            self._end(entry, answer, "failed", "redirect", f"leads to {answer.header('location')[:200]!r}")
        elif entry.hops >= self._config.max_redirects:
            self._end(entry, answer, "failed", "redirects", f"more than {self._config.max_redirects} in a row")
        else:
            hops, found = entry.hops + 1, (entry.priority, "redirect", entry.url, entry.news)
            self.receive([Found(target, entry.depth, entry.kind, hops, "", *found)])
            self._end(entry, answer, "redirected", "", f"to {target}")

    def _end(self, entry: Entry, answer: Answer, state: str, reason: str = "", detail: str = "") -> None:
        """Records an answer, pages in the WARC too, before the frontier knows of it."""
        end = self.ended(answer, state, reason, detail)
        position = self._writer.write(answer, _origin(entry)) if entry.kind == PAGE else None
        self._book(entry, replace(end, position=position), self.earlier(entry))

    def _book(self, entry: Entry, end: End, before: Earlier | None) -> None:
        """Notes an end with its times, and a change in the history."""
        whole = timed(end, before, self._now(), self._config.recrawl)
        self._frontier.end(entry, whole)
        self._take_changes(entry.url)
        if entry.kind == PAGE and whole.changed_at == whole.checked_at and whole.changed_at is not None:
            self._frontier.note_change(entry.url, whole.changed_at, whole.status, whole.digest)

    def _take_changes(self, url: str) -> None:
        if self._history is not None:
            for change in self._history.changes(url)[-_MOST_CHANGES:]:
                self._frontier.note_change(*change)

    def ended(self, answer: Answer, state: str, reason: str = "", detail: str = "") -> End:
        """An end with what the answer says of itself."""
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


def _origin(entry: Entry, links: list[str] | None = None, feeds: list[str] | None = None) -> Origin:
    return Origin(entry.why, entry.via, entry.depth, links or (), feeds or ())


def _as_before(end: End, before: Earlier) -> End:
    """An end with what an earlier crawl knows of the URL."""
    return replace(
        end,
        status=before.status,
        etag=before.etag,
        last_modified=before.last_modified,
        digest=before.digest,
        body_bytes=before.body_bytes,
        checked_at=before.checked_at,
        changed_at=before.changed_at,
        interval_s=before.interval_s,
        next_due=before.next_due,
    )


def _rank(priority: str) -> int:
    """A sitemap's priority, 0.0 to 1.0, as ours; that of a link where it says none."""
    try:
        value = float(priority)
    except ValueError:
        return LINK_PRIORITY
    return round(100 * value) if 0 <= value <= 1 else LINK_PRIORITY
