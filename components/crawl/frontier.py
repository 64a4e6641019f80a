"""The frontier: every URL the crawl has heard of and what became of it, in one SQLite file.

It is the crawl's only memory, so a crawl of many million URLs needs little RAM and a killed one goes on where it was.
The order that makes this exact: a page's WARC record is flushed first, its row and its links are committed second. What
is found in the WARC beyond the last committed record is cut off on resume, and its page is fetched again.

States: `pending` (to be fetched), `active` (handed out; pending again after a crash), and four ends, each with its
reason: `fetched`, `redirected`, `refused` (by our rules: robots, scope, depth ...), `failed` (status 500, timeout ...).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.crawl.urls import host_of

ENDS = ("fetched", "redirected", "refused", "failed")
PAGE, SITEMAP = "page", "sitemap"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS urls (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    kind TEXT NOT NULL,              -- page or sitemap
    depth INTEGER NOT NULL,          -- links away from a seed
    hops INTEGER NOT NULL,           -- redirects that led here
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', -- short, for counting: "robots", "status 500"
    detail TEXT NOT NULL DEFAULT '', -- long, for reading
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,     -- not before this time, seconds since 1970
    status INTEGER,
    etag TEXT,
    last_modified TEXT,
    digest TEXT,                     -- SHA-256 of the body, content encodings undone
    body_bytes INTEGER,
    warc_file TEXT,
    warc_offset INTEGER,
    warc_end INTEGER
);
CREATE INDEX IF NOT EXISTS next_urls ON urls (host, depth, id) WHERE state = 'pending';
"""
_TAKE = """
UPDATE urls SET state = 'active' WHERE id IN (
    SELECT id FROM urls WHERE state = 'pending' AND host = ? AND depth <= ? AND due <= ? ORDER BY depth, id LIMIT ?
) RETURNING id, url, host, kind, depth, hops, attempts
"""
_ADD = "INSERT OR IGNORE INTO urls (url, host, kind, depth, hops, state, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SHALLOWER = "UPDATE urls SET depth = ? WHERE url = ? AND state = 'pending' AND depth > ?"
_END_COLUMNS = ("state", "reason", "detail", "status", "etag", "last_modified", "digest", "body_bytes")
_END = """
UPDATE urls SET state = :state, reason = :reason, detail = :detail, attempts = :attempts, status = :status,
    etag = :etag, last_modified = :last_modified, digest = :digest, body_bytes = :body_bytes,
    warc_file = :warc_file, warc_offset = :warc_offset, warc_end = :warc_end WHERE id = :id
"""


@dataclass(frozen=True)
class Entry:
    """A URL handed out to be fetched; `attempts` counts those before this one."""

    id: int
    url: str
    host: str
    kind: str
    depth: int
    hops: int
    attempts: int


@dataclass(frozen=True)
class Found:
    """A URL to add. With a `refusal` it is only noted: never fetched, and counted under that reason."""

    url: str
    depth: int
    kind: str = PAGE
    hops: int = 0
    refusal: str = ""


@dataclass(frozen=True)
class Position:
    """Where a record lies in the WARC files: `end` is the offset of the byte after it."""

    file: str
    offset: int
    end: int


@dataclass(frozen=True)
class End:
    """How a URL ended. `state` is one of `ENDS`."""

    state: str
    reason: str = ""
    detail: str = ""
    status: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    digest: str | None = None
    body_bytes: int | None = None
    position: Position | None = None


class Frontier:
    """One crawl's frontier. Nothing is durable before `commit`.

    Attributes:
        counts: Number of URLs by (kind, state, reason), kept up to date.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)
        self._database.execute("UPDATE urls SET state = 'pending' WHERE state = 'active'")
        self._database.commit()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._count()

    def add(self, found: Iterable[Found]) -> set[str]:
        """Notes URLs, each once; a known one that is still pending keeps the lesser depth.

        Returns:
            Hosts that have something new to fetch.
        """
        hosts: set[str] = set()
        for one in found:
            host = host_of(one.url)
            state = "refused" if one.refusal else "pending"
            values = (one.url, host, one.kind, one.depth, one.hops, state, one.refusal)
            if self._database.execute(_ADD, values).rowcount == 1:
                self.counts[one.kind, state, one.refusal] += 1
                if not one.refusal:
                    hosts.add(host)
            else:
                self._database.execute(_SHALLOWER, (one.depth, one.url, one.depth))
        return hosts

    def take(self, host: str, number: int, max_depth: int, now: float) -> list[Entry]:
        """Hands out pending URLs of a host: sitemaps and shallow pages first, then in order of discovery."""
        rows = self._database.execute(_TAKE, (host, max_depth, now, number)).fetchall()
        entries = sorted((Entry(*row) for row in rows), key=lambda entry: (entry.depth, entry.id))
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

    def refuse_rest(self, reason: str, deeper_than: int = -1) -> None:
        """Ends everything still pending (or only what lies deeper) as refused."""
        self._database.execute(
            "UPDATE urls SET state = 'refused', reason = ? WHERE state = 'pending' AND depth > ?", (reason, deeper_than)
        )
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
