"""The frontiers of a crawl's parts as one file, and what it adds up to.

Rows are in order of URL and the tables hold nothing of the crawl's own housekeeping (outboxes, what hosts were owed),
so the file does not show how many parts there were.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from components.crawl.frontier import ENDS, SCHEMA
from components.publish import publish

_HOUSEKEEPING = ("outbox", "notes", "hosts", "robots")


@dataclass(frozen=True)
class Ends:
    """What a finished crawl adds up to.

    Attributes:
        counts: Number of URLs by (kind, state, reason).
        body_bytes: Bytes of all fetched pages, content encodings undone.
        changed: Fetched pages that were had before with another body.
        gone: Pages that were there once and are not any more.
    """

    counts: Counter[tuple[str, str, str]]
    body_bytes: int
    changed: int
    gone: int

    def summary(self, kind: str) -> dict[str, dict[str, int]]:
        """How many URLs of a kind ended in each state, by reason ("ok" for none)."""
        found: dict[str, dict[str, int]] = {state: {} for state in ENDS}
        for (one, state, why), number in sorted(self.counts.items()):
            if one == kind and number:
                found.setdefault(state, {})[why or "ok"] = number
        return found


def merge_frontiers(paths: Sequence[Path], target: Path) -> None:
    """Writes the frontiers of all parts as one compact file."""
    with publish(target) as temporary, closing(sqlite3.connect(temporary)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.executescript(SCHEMA)
        names = [row[1] for row in database.execute("PRAGMA table_info(urls)") if row[1] != "id"]
        columns = ", ".join(names)
        database.execute(f"CREATE TEMP TABLE every AS SELECT {columns} FROM urls")
        for path in paths:
            database.commit()
            database.execute("ATTACH ? AS part", (str(path),))
            database.execute(f"INSERT INTO every SELECT {columns} FROM part.urls")
            database.execute("INSERT OR IGNORE INTO changes SELECT * FROM part.changes")
            database.commit()
            database.execute("DETACH part")
        database.execute(f"INSERT INTO main.urls ({columns}) SELECT {columns} FROM every ORDER BY url")
        database.execute("DROP TABLE every")
        for name in _HOUSEKEEPING:
            database.execute(f"DROP TABLE {name}")
        database.commit()


def count_ends(path: Path) -> Ends:
    """Adds up a merged frontier."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT kind, state, reason, count(*) FROM urls GROUP BY kind, state, reason"
        ).fetchall()
        fetched = "FROM urls WHERE state = 'fetched' AND kind = 'page'"
        (body_bytes,) = database.execute(f"SELECT coalesce(sum(body_bytes), 0) {fetched}").fetchone()
        had = "EXISTS (SELECT 1 FROM changes WHERE changes.url = urls.url AND changes.status = 200 AND at < changed_at)"
        (changed,) = database.execute(f"SELECT count(*) {fetched} AND reason = '' AND {had}").fetchone()
        missing = "state = 'failed' AND kind = 'page' AND status IN (404, 410)"
        (gone,) = database.execute(f"SELECT count(*) FROM urls WHERE {missing} AND {had}").fetchone()
    counts = Counter({(kind, state, why): number for kind, state, why, number in rows})
    return Ends(counts, int(body_bytes), int(changed), int(gone))
