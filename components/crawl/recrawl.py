"""What a crawl takes from an earlier one: when to ask again, what to ask with, what to keep.

Every URL that the earlier crawl had heard of is in the new frontier from the start, so a page that has not changed need
not be parsed for its links again. A page is asked for when it is due, with the validators (ETag, Last-Modified) it came
with; a page that is not due, or has not changed, or cannot be had just now, keeps its earlier record: the bytes of the
WARC records are copied into the new files as they are, so that every crawl artifact is whole by itself and the earlier
one may be deleted.

The interval between two visits halves when a page has changed and doubles when it has not, within limits (the rule of
Cho and Garcia-Molina's incremental crawler, without its statistics). A sitemap or a feed that tells of a later change
makes a page due at once. A page that is gone (404, 410) stays in the frontier as a tombstone: it is asked for as seldom
as its interval says, and its history tells when it went.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from components.crawl.config import RecrawlConfig
from components.crawl.frontier import End, Found
from components.errors import StepError

GONE = (404, 410)
WISHES = ("x-robots-tag", "tdm-reservation", "tdm-policy", "link")
"""Headers in which owners say what may be done with a page, or under which licence."""
_HOUR_S = 3600.0
_COLUMNS = (
    *("url", "kind", "depth", "state", "reason", "status", "etag", "last_modified", "digest", "body_bytes"),
    *("warc_file", "warc_offset", "warc_end", "checked_at", "changed_at", "interval_s", "next_due"),
)


@dataclass(frozen=True)
class Earlier:
    """What an earlier crawl knows of a URL; see the columns of the frontier."""

    url: str
    kind: str
    depth: int
    state: str
    reason: str
    status: int | None
    etag: str | None
    last_modified: str | None
    digest: str | None
    body_bytes: int | None
    warc_file: str | None
    warc_offset: int | None
    warc_end: int | None
    checked_at: float | None
    changed_at: float | None
    interval_s: float | None
    next_due: float | None

    @property
    def kept(self) -> bool:
        """Whether its page is in the earlier crawl's WARC files."""
        return self.state == "fetched" and self.warc_file is not None

    @property
    def gone(self) -> bool:
        """Whether it is a tombstone."""
        return self.status in GONE

    def due(self, now: float, news: float) -> bool:
        """Whether it is time to ask again.

        Args:
            now: Seconds since 1970.
            news: When the site says that it changed last; 0 if it does not say.
        """
        passed = self.next_due is None or self.checked_at is None or self.next_due <= now
        return passed or news > (self.checked_at or 0.0)

    def validators(self) -> dict[str, str]:
        """Headers that ask for the page only if it has changed; none if it came with nothing to tell by."""
        if not self.kept:
            return {}
        found = {"If-None-Match": self.etag or "", "If-Modified-Since": self.last_modified or ""}
        return {name: value for name, value in found.items() if value and value.isascii() and value.isprintable()}


class History:
    """An earlier crawl's artifact, read only.

    Args:
        artifact: Its folder.

    Raises:
        StepError: If it holds no frontier that this version can read.
    """

    def __init__(self, artifact: Path) -> None:
        path = artifact / "frontier.sqlite"
        self._warc = artifact / "warc"
        self._where = str(path)
        try:
            # Immutable: an artifact does not change, and a read-only file system has no place for locks.
            self._database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
            self._database.execute(f"SELECT {', '.join(_COLUMNS)} FROM urls LIMIT 1").fetchall()
            self._database.execute("SELECT url, at, status, digest FROM changes LIMIT 1").fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def of(self, url: str) -> Earlier | None:
        """What it knows of a URL."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM urls WHERE url = ?"
        row = self._database.execute(query, (url,)).fetchone()
        return None if row is None else Earlier(*row)

    def found(self) -> Iterator[Found]:
        """Every URL it had heard of, in the order it heard of them."""
        query = "SELECT url, depth, kind, hops, priority, news FROM urls ORDER BY id"
        with closing(self._database.execute(query)) as rows:
            for url, depth, kind, hops, priority, news in rows:
                yield Found(url, depth, kind, hops, "", priority, "recrawl", news=news)

    def changes(self, url: str) -> list[tuple[str, float, int | None, str | None]]:
        """A URL's history, oldest first: (URL, since when, status, digest)."""
        query = "SELECT url, at, status, digest FROM changes WHERE url = ? ORDER BY at"
        return self._database.execute(query, (url,)).fetchall()

    def record(self, earlier: Earlier) -> bytes:
        """The WARC records of a page that was kept: gzip members, as they are.

        Raises:
            StepError: If they are not there.
        """
        path = self._warc / str(earlier.warc_file)
        start, end = int(earlier.warc_offset or 0), int(earlier.warc_end or 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            raise self._damaged(f"{path.name}: {error.strerror}") from error
        if len(content) != end - start:
            raise self._damaged(f"{path.name} ends before byte {end}")
        return content

    def _damaged(self, why: str) -> StepError:
        return StepError(
            f"The earlier crawl cannot be gone on from: {why}.",
            where=self._where,
            fix="crawl without `previous`, or name an artifact of this version's step crawl",
        )


def next_interval_s(before: float | None, changed: bool, config: RecrawlConfig) -> float:
    """Seconds to wait between the last visit and the next.

    Args:
        before: The interval until now; None at the first visit.
        changed: Whether this visit found something new.
        config: The limits.
    """
    if before is None:
        return config.first_h * _HOUR_S
    wanted = before / 2 if changed else before * 2
    return min(max(wanted, config.min_h * _HOUR_S if before else 0.0), config.max_h * _HOUR_S)


def timed(end: End, earlier: Earlier | None, now: float, config: RecrawlConfig) -> End:
    """An end with its times: when it was seen, since when it is so, when to look again.

    Args:
        end: How the visit ended.
        earlier: What was known before.
        now: Seconds since 1970.
        config: The limits.
    """
    same = earlier is not None and unchanged(end, earlier)
    interval = next_interval_s(earlier.interval_s if earlier else None, not same, config)
    since = earlier.changed_at if same and earlier is not None and earlier.changed_at is not None else now
    return replace(end, checked_at=now, changed_at=since, interval_s=interval, next_due=now + interval)


def unchanged(end: End, earlier: Earlier) -> bool:
    """Whether a visit found what the one before had found."""
    if end.status != earlier.status or end.state != earlier.state:
        return False
    return end.state != "fetched" or end.digest == earlier.digest
