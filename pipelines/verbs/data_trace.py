"""The way of one document through a run: what each step had to say of it, in the order of the plan.

A station is one step. The walk ends where the document was dropped. A document that one step kept and the next knows
nothing of has vanished, which must never happen: it is a station of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.card.funnel import frontiers, open_frontier
from components.documents import Document, Dropped
from components.errors import StepError
from components.shards.format import SPLITS
from pipelines.verbs.data_chain import Chain, Link
from pipelines.verbs.data_lookup import Name, Place, batch_at, dropped_rows, kept_row, side_row
from pipelines.verbs.data_text import harmless, number

_SHOWN_STATISTICS = 12


@dataclass(frozen=True)
class Station:
    """What one step had to say of a document.

    Attributes:
        step: The step.
        name: Its artifact, as STEP@KEY.
        state: "fetched", "kept", "dropped", "measured", "encoded", "trained", "vanished", or a state of the frontier.
        text: The rest, in a line for a reader.
        facts: The same for programs.
    """

    step: str
    name: str
    state: str
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"step": self.step, "artifact": self.name, "state": self.state, "text": self.text, **self.facts}


def trace(chain: Chain, name: Name) -> Iterator[Station]:
    """The stations of a document, up to the one that dropped it."""
    path = {link.step for link in chain.path()} | {link.step for link in chain.of_kind("holds_tokens")}
    was_kept, chars = False, 0
    for link in chain.links.values():
        stations = [_compared(station, chars) for station in _stations(chain, link, name)]
        if was_kept and not stations and link.step in path:
            stations.append(
                Station(link.step, link.name, "vanished", "neither kept nor dropped: the corpus is damaged")
            )
        yield from stations
        states = {station.state for station in stations}
        is_scored = link.holds_scores and ("kept" in states or not link.holds_documents)
        if is_scored and (scores := _scores(chain, link, name.doc_id)):
            yield scores
        if ("dropped" in states and "kept" not in states) or "vanished" in states:
            return
        was_kept = was_kept or "kept" in states
        chars = next((station.facts["chars"] for station in stations if station.state == "kept"), chars)


def fetched(chain: Chain, urls: list[str]) -> Iterator[Station]:
    """What the crawls of a run know of some spellings of a URL, documents or not."""
    for link in chain.of_kind("holds_pages"):
        for url in urls:
            yield from _page_rows(chain.folder(link), link, url)


def _stations(chain: Chain, link: Link, name: Name) -> Iterator[Station]:
    if link.holds_pages:
        yield from _page_rows(chain.folder(link), link, name.url)
    elif link.holds_documents:
        yield from _verdicts(chain, link, name.doc_id)
    elif link.holds_tokens:
        yield from _token_rows(chain, link, name.doc_id)


def _compared(station: Station, chars: int) -> Station:
    """Says how much of the text a step cut out, against the characters it had before."""
    cut = chars - station.facts.get("chars", chars)
    return replace(station, text=f"{station.text}; {number(cut)} characters cut out here") if cut > 0 else station


def _page_rows(folder: Path, link: Link, url: str) -> Iterator[Station]:
    """What a crawl's frontier says of a URL; of archives from elsewhere, which have none, what their records say."""
    from components.crawl.warc_read import find_pages

    for path in frontiers(folder):
        with closing(open_frontier(path)) as database:
            database.row_factory = sqlite3.Row
            for row in database.execute("SELECT * FROM urls WHERE url = ?", (url,)):
                facts = {key: row[key] for key in row.keys() if row[key] not in (None, "")}  # noqa: SIM118
                facts["changes"] = _changes(database, url)
                yield Station(link.step, link.name, row["state"], _frontier_text(folder, facts), facts)
    if not frontiers(folder):
        for page in find_pages(folder / "warc", url):
            facts = {"url": page.url, "status": page.status, "warc_file": page.file, "warc_offset": page.offset}
            yield Station(link.step, link.name, "recorded", harmless(_place_text(folder, facts)), facts)


def _changes(database: sqlite3.Connection, url: str) -> list[dict[str, Any]]:
    """When a page was seen to have changed, over all crawls of it; nothing in a frontier that keeps no history."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
        return []
    rows = database.execute("SELECT at, status, digest FROM changes WHERE url = ? ORDER BY at", (url,))
    return [dict(row) for row in rows]


def _frontier_text(folder: Path, facts: Mapping[str, Any]) -> str:
    told = [str(facts[key]) for key in ("reason", "detail") if key in facts]
    told += [f"{facts['attempts']} attempts"] if facts.get("attempts", 0) > 1 else []
    told += [f"found as {facts['why']}{' on ' + facts['via'] if 'via' in facts else ''}"] if "why" in facts else []
    if facts.get("hops"):
        told.append(f"reached over {facts['hops']} redirects")
    if len(facts["changes"]) > 1:
        told.append(f"changed {len(facts['changes']) - 1} times")
    if "warc_file" in facts:
        told.append(_place_text(folder, facts))
    return harmless("; ".join(told))


def _place_text(folder: Path, facts: Mapping[str, Any]) -> str:
    return f"record at byte {facts['warc_offset']} of warc/{facts['warc_file']}: {_record(folder, facts)}"


def _record(folder: Path, facts: Mapping[str, Any]) -> str:
    """What the WARC record itself says."""
    from components.crawl.warc_read import open_record

    path = folder / "warc" / str(facts["warc_file"])
    try:
        page = open_record(path, int(facts["warc_offset"]))
    except (StepError, OSError) as error:
        return f"cannot be read ({error.what if isinstance(error, StepError) else error})"
    kind = page.headers.get("content-type", "no content type")
    fault = f", {page.fault}" if page.fault else ""
    return f"status {page.status}, {kind}, {number(len(page.payload))} bytes{fault}, at {page.fetched_at}"


def _verdicts(chain: Chain, link: Link, doc_id: bytes) -> Iterator[Station]:
    folder = chain.folder(link)
    found = kept_row(folder, doc_id)
    if found is not None:
        place, document = found
        facts = {"shard": place.shard, "row": place.row, **_facts(document)}
        yield Station(link.step, link.name, "kept", _kept_text(place, document), facts)
    for row in dropped_rows(folder, doc_id):
        facts = {"rule": row.rule, "value": row.value, "threshold": row.threshold}
        yield Station(link.step, link.name, "dropped", _dropped_text(row), facts)


def _facts(document: Document) -> dict[str, Any]:
    names = ("lang", "script", "date", "licence", "opt_out", "title", "quality", "cluster_size")
    return {name: getattr(document, name) for name in names} | {
        "chars": len(document.text),
        "cluster": document.cluster.hex(),
    }


def _kept_text(place: Place, document: Document) -> str:
    told = [f"documents/{place.shard} row {place.row}", f"{number(len(document.text))} characters"]
    told += [value for value in (document.lang, document.script, document.date, document.licence) if value]
    if document.opt_out:
        told.append(f"marked {document.opt_out}")
    if document.cluster_size > 1:
        told.append(f"stands for {document.cluster_size} near duplicates, itself among them")
    return harmless(", ".join(told))


def _dropped_text(row: Dropped) -> str:
    return harmless(f"rule {row.rule}: {row.value or 'none'} against {row.threshold or 'none'}")


def _scores(chain: Chain, link: Link, doc_id: bytes) -> Station | None:
    row = side_row(chain.folder(link), "scores", doc_id)
    if row is None:
        return None
    facts = {name: value for name, value in row.items() if isinstance(value, int | float) and value == value}
    shown = list(facts.items())[:_SHOWN_STATISTICS]
    more = f", {len(facts) - len(shown)} more (--json)" if len(facts) > len(shown) else ""
    text = ", ".join(f"{name} {number(value)}" for name, value in shown) + more
    return Station(link.step, link.name, "measured", text, {"statistics": facts})


def _token_rows(chain: Chain, link: Link, doc_id: bytes) -> Iterator[Station]:
    for split in SPLITS:
        found = token_row(chain.folder(link) / split, doc_id)
        if found is not None:
            place, tokens = found
            facts = {"split": split, "shard": place.shard, "row": place.row, "tokens": tokens}
            text = f"{split}/{place.shard} row {place.row}, {number(tokens)} tokens"
            yield Station(link.step, link.name, "encoded", text, facts)


def token_row(folder: Path, doc_id: bytes) -> tuple[Place, int] | None:
    """Where a document lies in a split of token shards, and how many tokens it has."""
    import pyarrow.compute as pc

    from components.documents import shard_of

    paths = sorted(folder.glob("shard-*.arrow"))
    found = batch_at(paths[shard_of(doc_id, len(paths))], doc_id) if paths else None
    if found is None:
        return None
    return found[0], int(pc.list_value_length(found[1].column("tokens"))[0].as_py())
