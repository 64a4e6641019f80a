"""The frontier: every URL the crawl has heard of and what became of it, in one SQLite file.

It is the crawl's only memory, so a crawl of many million URLs needs little RAM and a killed one goes on where it was.
The order that makes this exact: a page's WARC record is flushed first, its row and its links are committed second. What
is found in the WARC beyond the last committed record is cut off on resume, and its page is fetched again.

States: `pending` (to be fetched), `active` (handed out; pending again after a crash), and four ends, each with its
reason: `fetched`, `redirected`, `refused` (by our rules: robots, scope, depth ...), `failed` (status 500, timeout ...).

The links of a site's pages are mostly the same, so what is known is kept at hand too, as far as there is room: asking
SQLite about every link of every page would set the crawl's pace. The database is held by one process at a time, which
spares it a lock at every step and shared memory, which no network file system has.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.crawl.urls import host_of

ENDS = ("fetched", "redirected", "refused", "failed")
PAGE, SITEMAP, FEED = "page", "sitemap", "feed"
LINK_PRIORITY, LIST_PRIORITY = 50, 1000
"""What a link has; what sitemaps and feeds have, because their pages are waiting for them."""

_MOST_KNOWN = 100_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    kind TEXT NOT NULL,              -- page, sitemap or feed
    depth INTEGER NOT NULL,          -- links away from a seed
    hops INTEGER NOT NULL,           -- redirects that led here
    priority INTEGER NOT NULL,       -- the greater the sooner
    why TEXT NOT NULL,               -- seed, link, redirect, sitemap, feed, recrawl, robots
    via TEXT NOT NULL,               -- URL of what named it first
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', -- short, for counting: "robots", "status 500"
    detail TEXT NOT NULL DEFAULT '', -- long, for reading
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,     -- not before this time, seconds since 1970
    shorter INTEGER NOT NULL DEFAULT 0, -- 1: a shorter way here was found after the page was fetched
    news REAL NOT NULL DEFAULT 0,    -- when the site says it changed, seconds since 1970
    status INTEGER,
    etag TEXT,
    last_modified TEXT,
    digest TEXT,                     -- SHA-256 of the body, content encodings undone
    body_bytes INTEGER,
    warc_file TEXT,
    warc_offset INTEGER,
    warc_end INTEGER,
    checked_at REAL,                 -- the last answer, seconds since 1970
    changed_at REAL,                 -- the first answer with this digest or status
    interval_s REAL,                 -- how long to wait between two visits
    next_due REAL                    -- when to ask again
);
CREATE INDEX IF NOT EXISTS next_urls ON urls (host, priority DESC, depth, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS fetched_pages ON urls (host) WHERE state = 'fetched' AND kind = 'page';
CREATE INDEX IF NOT EXISTS shorter_ways ON urls (id) WHERE shorter;
CREATE TABLE IF NOT EXISTS changes (
    url TEXT, at REAL, status INTEGER, digest TEXT, PRIMARY KEY (url, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hosts (host TEXT PRIMARY KEY, ready_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS robots (url TEXT PRIMARY KEY, status INTEGER, body BLOB, closed TEXT, read_at REAL);
CREATE TABLE IF NOT EXISTS outbox (
    url TEXT PRIMARY KEY, depth INTEGER, kind TEXT, hops INTEGER, priority INTEGER, why TEXT, via TEXT, news REAL,
    sent INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_TAKE = """
UPDATE urls SET state = 'active' WHERE id IN (
    SELECT id FROM urls WHERE state = 'pending' AND host = ? AND depth <= ? AND due <= ?
    ORDER BY priority DESC, depth, id LIMIT ?
) RETURNING id, url, host, kind, depth, hops, attempts, priority, why, via, news
"""
_ADD = """
INSERT OR IGNORE INTO urls (url, host, kind, depth, hops, priority, why, via, news, state, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_BETTER = """
UPDATE urls SET shorter = shorter OR (state IN ('fetched', 'redirected', 'active') AND depth > :depth),
    depth = min(depth, :depth), hops = min(hops, :hops), priority = max(priority, :priority), news = max(news, :news)
WHERE url = :url AND (depth > :depth OR hops > :hops OR priority < :priority OR news < :news)
RETURNING state
"""
_OUT = """
INSERT INTO outbox (url, depth, kind, hops, priority, why, via, news) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (url) DO UPDATE SET sent = 0, depth = min(depth, excluded.depth), hops = min(hops, excluded.hops),
    priority = max(priority, excluded.priority), news = max(news, excluded.news),
    kind = CASE WHEN kind = 'page' THEN excluded.kind ELSE kind END
WHERE depth > excluded.depth OR hops > excluded.hops OR priority < excluded.priority OR news < excluded.news
    OR (kind = 'page' AND excluded.kind != 'page')
"""
_END_COLUMNS = (
    *("state", "reason", "detail", "status", "etag", "last_modified", "digest", "body_bytes"),
    *("checked_at", "changed_at", "interval_s", "next_due"),
)
_END = f"""
UPDATE urls SET {", ".join(f"{name} = :{name}" for name in _END_COLUMNS)}, attempts = :attempts,
    warc_file = :warc_file, warc_offset = :warc_offset, warc_end = :warc_end WHERE id = :id
"""


@dataclass(frozen=True)
class Entry:
    """A URL handed out to be fetched; `attempts` counts those before this one. See `Found` for the others."""

    id: int
    url: str
    host: str
    kind: str
    depth: int
    hops: int
    attempts: int
    priority: int = LINK_PRIORITY
    why: str = "link"
    via: str = ""
    news: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A URL to add.

    Attributes:
        url: In its one spelling.
        depth: Links away from a seed.
        kind: `PAGE`, `SITEMAP` or `FEED`.
        hops: Redirects that led here.
        refusal: Why it is only noted: never fetched, and counted under this reason.
        priority: The greater the sooner it is fetched on its host.
        why: What named it: a seed, a link, a redirect, a sitemap, a feed, robots.txt or an earlier crawl.
        via: Its URL.
        news: When the site says it changed, seconds since 1970; 0 if it does not say.
    """

    url: str
    depth: int
    kind: str = PAGE
    hops: int = 0
    refusal: str = ""
    priority: int = LINK_PRIORITY
    why: str = "link"
    via: str = ""
    news: float = 0.0


@dataclass(frozen=True)
class Position:
    """Where a record lies in the WARC files: `end` is the offset of the byte after it."""

    file: str
    offset: int
    end: int


@dataclass(frozen=True)
class End:
    """How a URL ended. `state` is one of `ENDS`; times are seconds since 1970, see the columns of the frontier."""

    state: str
    reason: str = ""
    detail: str = ""
    status: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    digest: str | None = None
    body_bytes: int | None = None
    position: Position | None = None
    checked_at: float | None = None
    changed_at: float | None = None
    interval_s: float | None = None
    next_due: float | None = None


@dataclass(frozen=True)
class RobotsAnswer:
    """What a robots.txt answered: its status and body, or why there was no answer; `read_at` in seconds since 1970."""

    status: int
    body: bytes
    closed: str
    read_at: float


class Frontier:
    """One crawl's frontier. Nothing is durable before `commit`.

    Attributes:
        counts: Number of URLs by (kind, state, reason), kept up to date.
        known: Pages at hand: URL -> depth at which it is known; those never to be fetched have -1.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("PRAGMA wal_autocheckpoint = 4000")
        self._database.executescript(SCHEMA)
        self._database.execute("UPDATE urls SET state = 'pending' WHERE state = 'active'")
        self._database.commit()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.known: dict[str, int] = {}
        self._count()

    def add(self, found: Iterable[Found]) -> dict[str, int]:
        """Notes URLs, each once; a known one keeps the lesser depth and the greater priority.

        Returns:
            Hosts that may have something more to fetch, with the greatest priority of that.
        """
        hosts: dict[str, int] = {}
        if len(self.known) > _MOST_KNOWN:
            self.known.clear()
        for one in found:
            host = host_of(one.url)
            state = "refused" if one.refusal else "pending"
            values = (one.url, host, one.kind, one.depth, one.hops, one.priority, one.why, one.via, one.news)
            if self._database.execute(_ADD, (*values, state, one.refusal)).rowcount == 1:
                self.counts[one.kind, state, one.refusal] += 1
                if not one.refusal:
                    hosts[host] = max(one.priority, hosts.get(host, one.priority))
            elif not one.refusal and self._improve(one):
                hosts[host] = max(one.priority, hosts.get(host, one.priority))
            if one.kind == PAGE:
                self.known[one.url] = -1 if one.refusal else min(one.depth, self.known.get(one.url, one.depth))
        return hosts

    def _improve(self, one: Found) -> bool:
        """Takes up a better way to a known URL; True if there may be something to fetch now."""
        values = {name: getattr(one, name) for name in ("url", "depth", "hops", "priority", "news")}
        better = self._database.execute(_BETTER, values).fetchall() == [("pending",)]
        return (one.kind != PAGE and self._as_list(one)) or better

    def _as_list(self, one: Found) -> bool:
        """What was linked to as a page turns out to be a sitemap or a feed; its body may not have been read then."""
        query = "SELECT id, kind, state, reason FROM urls WHERE url = ?"
        number, kind, state, reason = self._database.execute(query, (one.url,)).fetchone()
        again = state == "refused" and reason in ("content type", "file type")
        if kind != PAGE or not (again or state == "pending"):
            return False
        change = "UPDATE urls SET kind = ?, state = 'pending', reason = '', detail = '' WHERE id = ?"
        self._database.execute(change, (one.kind, number))
        self.counts[kind, state, reason] -= 1
        self.counts[one.kind, "pending", ""] += 1
        return True

    def send(self, found: Iterable[Found]) -> None:
        """Notes URLs that are another part's business, for `unsent`."""
        if len(self.known) > _MOST_KNOWN:
            self.known.clear()
        for one in found:
            values = (one.url, one.depth, one.kind, one.hops, one.priority, one.why, one.via, one.news)
            self._database.execute(_OUT, values)
            if one.kind == PAGE:
                self.known[one.url] = min(one.depth, self.known.get(one.url, one.depth))

    def unsent(self) -> Iterator[Found]:
        """What `send` noted and `mark_sent` has not ticked off, in order of URL."""
        query = "SELECT url, depth, kind, hops, priority, why, via, news FROM outbox WHERE NOT sent ORDER BY url"
        for url, depth, kind, hops, *rest in self._database.execute(query):
            yield Found(url, depth, kind, hops, "", *rest)

    def mark_sent(self) -> None:
        """Ticks off what `unsent` gave, durably. It is kept, so that nothing is sent twice."""
        self._database.execute("UPDATE outbox SET sent = 1 WHERE NOT sent")
        self.commit()

    def take(self, host: str, number: int, max_depth: int, now: float) -> list[Entry]:
        """Hands out pending URLs of a host: by priority, then shallow ones first, then in order of discovery."""
        rows = self._database.execute(_TAKE, (host, max_depth, now, number)).fetchall()
        entries = sorted((Entry(*row) for row in rows), key=lambda entry: (-entry.priority, entry.depth, entry.id))
        for entry in entries:
            self._move(entry.kind, "pending", "active")
        return entries

    def end(self, entry: Entry, end: End) -> None:
        """Notes how an active URL ended."""
        place = end.position
        values = {
            **{name: getattr(end, name) for name in _END_COLUMNS},
            "attempts": entry.attempts + 1,
            "warc_file": place and place.file,
            "warc_offset": place and place.offset,
            "warc_end": place and place.end,
            "id": entry.id,
        }
        self._database.execute(_END, values)
        self._move(entry.kind, "active", end.state, end.reason)

    def put_back(self, entry: Entry, due: float, attempts: int) -> None:
        """Makes an active URL pending again, not before `due` (seconds since 1970)."""
        self._database.execute(
            "UPDATE urls SET state = 'pending', due = ?, attempts = ? WHERE id = ?", (due, attempts, entry.id)
        )
        self._move(entry.kind, "active", "pending")

    def news_of(self, entry: Entry) -> float:
        """When the site says that an active URL changed; 0 if it does not say."""
        return float(self._database.execute("SELECT news FROM urls WHERE id = ?", (entry.id,)).fetchone()[0])

    def note_change(self, url: str, at: float, status: int | None, digest: str | None) -> None:
        """Adds a line to a URL's history: from then on it had this status and body."""
        self._database.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?)", (url, at, status, digest))

    def shorter_ways(self, number: int) -> list[tuple[str, int, str, str, Position | None]]:
        """Some fetched or redirected pages to which a shorter way was found since, each told once.

        Returns:
            URL, depth, state, detail and the place of its record.
        """
        query = """UPDATE urls SET shorter = 0 WHERE id IN (
                SELECT id FROM urls WHERE shorter AND state IN ('fetched', 'redirected') ORDER BY id LIMIT ?
            ) RETURNING url, depth, state, detail, warc_file, warc_offset, warc_end"""
        rows = self._database.execute(query, (number,)).fetchall()
        return [
            (url, depth, state, detail, Position(*place) if place[0] else None)
            for url, depth, state, detail, *place in rows
        ]

    def has_deeper(self, max_depth: int) -> bool:
        """Whether anything waits that lies too deep."""
        query = "SELECT 1 FROM urls WHERE state = 'pending' AND depth > ? LIMIT 1"
        return self._database.execute(query, (max_depth,)).fetchone() is not None

    def note(self, name: str, value: str) -> None:
        """Keeps a word with the frontier."""
        self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """What `note` kept; None if nothing."""
        row = self._database.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note_host(self, host: str, ready_at: float) -> None:
        """Keeps when a host may be asked again (seconds since 1970)."""
        self._database.execute("INSERT OR REPLACE INTO hosts VALUES (?, ?)", (host, ready_at))

    def host_ready_at(self, host: str) -> float:
        """What `note_host` kept; 0 if nothing."""
        row = self._database.execute("SELECT ready_at FROM hosts WHERE host = ?", (host,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def note_robots(self, url: str, answer: RobotsAnswer) -> None:
        """Keeps what a robots.txt answered."""
        values = (url, answer.status, answer.body, answer.closed, answer.read_at)
        self._database.execute("INSERT OR REPLACE INTO robots VALUES (?, ?, ?, ?, ?)", values)

    def robots_answer(self, url: str) -> RobotsAnswer | None:
        """What `note_robots` kept."""
        query = "SELECT status, body, closed, read_at FROM robots WHERE url = ?"
        row = self._database.execute(query, (url,)).fetchone()
        return None if row is None else RobotsAnswer(*row)

    def number_on(self, host: str) -> int:
        """Fetched pages of a host."""
        query = "SELECT count(*) FROM urls WHERE host = ? AND state = 'fetched' AND kind = 'page'"
        return int(self._database.execute(query, (host,)).fetchone()[0])

    def waiting(self) -> int:
        """URLs of all kinds that are not at an end."""
        return sum(number for (_, state, _), number in self.counts.items() if state in ("pending", "active"))

    def refuse_rest(self, reason: str, deeper_than: int = -1, host: str | None = None) -> None:
        """Ends everything still pending (or only what lies deeper, or on one host) as refused."""
        change = "UPDATE urls SET state = 'refused', reason = ? WHERE state = 'pending' AND depth > ?"
        if host is None:
            self._database.execute(change, (reason, deeper_than))
        else:
            self._database.execute(f"{change} AND host = ? AND kind = 'page'", (reason, deeper_than, host))
        self._count()

    def waiting_hosts(self, max_depth: int) -> list[str]:
        """Hosts with pending URLs."""
        query = "SELECT DISTINCT host FROM urls WHERE state = 'pending' AND depth <= ? ORDER BY host"
        return [host for (host,) in self._database.execute(query, (max_depth,))]

    def next_due(self, host: str, max_depth: int) -> float | None:
        """Earliest time a pending URL of a host is due (seconds since 1970); None if the host has none."""
        query = "SELECT min(due) FROM urls WHERE state = 'pending' AND host = ? AND depth <= ?"
        due: float | None = self._database.execute(query, (host, max_depth)).fetchone()[0]
        return due

    def number(self, kind: str, *states: str, reason: str | None = None) -> int:
        """How many URLs of a kind are in any of some states (with one reason, if given)."""
        return sum(
            number
            for (one, state, why), number in self.counts.items()
            if one == kind and state in states and reason in (None, why)
        )

    def summary(self, kind: str) -> dict[str, dict[str, int]]:
        """How many URLs ended in each state, by reason ("ok" for none)."""
        found: dict[str, dict[str, int]] = {state: {} for state in ENDS}
        for (one, state, why), number in sorted(self.counts.items()):
            if one == kind and number:
                found.setdefault(state, {})[why or "ok"] = number
        return found

    def body_bytes(self) -> int:
        """Bytes of all fetched pages, content encodings undone."""
        query = "SELECT coalesce(sum(body_bytes), 0) FROM urls WHERE state = 'fetched' AND kind = 'page'"
        return int(self._database.execute(query).fetchone()[0])

    def story_of(self, urls: Sequence[str]) -> list[str]:
        """One line for each URL the frontier knows: what became of it."""
        query = "SELECT url, state, reason, detail FROM urls WHERE url = ?"
        rows = [row for url in urls for row in self._database.execute(query, (url,))]
        return [f"{url}: {': '.join(part for part in parts if part)}" for url, *parts in rows]

    def recorded(self) -> dict[str, int]:
        """WARC files with committed records, and where the last of these ends."""
        query = "SELECT warc_file, max(warc_end) FROM urls WHERE warc_file IS NOT NULL GROUP BY warc_file"
        return dict(self._database.execute(query))

    def forget_records(self, file: str, size: int) -> None:
        """Makes pages pending again whose committed record lies beyond the end of a file (after a power failure)."""
        self._database.execute(
            "UPDATE urls SET state = 'pending', reason = '', warc_file = NULL WHERE warc_file = ? AND warc_end > ?",
            (file, size),
        )
        self._database.commit()
        self._count()

    def commit(self) -> None:
        """Makes everything so far durable."""
        self._database.commit()

    def copy_to(self, path: Path) -> None:
        """Writes the frontier as one compact file."""
        self.commit()
        self._database.execute("VACUUM INTO ?", (str(path),))

    def close(self) -> None:
        """Commits and closes."""
        self.commit()
        self._database.close()

    def _move(self, kind: str, before: str, after: str, reason: str = "") -> None:
        self.counts[kind, before, ""] -= 1
        self.counts[kind, after, reason] += 1

    def _count(self) -> None:
        query = "SELECT kind, state, reason, count(*) FROM urls GROUP BY kind, state, reason"
        self.counts = Counter(
            {(kind, state, why): number for kind, state, why, number in self._database.execute(query)}
        )
