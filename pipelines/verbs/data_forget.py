"""`headwater data forget`: all that a document, a page or a host touches, and having it dropped from now on.

Every artifact of the store is looked through, whatever run made it: WARC records, document shards, ledgers, tables
beside them, token shards by split, and every model with the optimizer steps that read a piece of it. A near duplicate
that was dropped in favour of a forgotten document, and is not forgotten itself, would take its place: it is listed as a
copy. Nothing is deleted here. With `--apply` the targets are entered in the opt-out list of the workspace; the next run
asks for none of them and drops what is there, which makes anew exactly the steps that read them. `--rewrite` makes that
run at once, as far as the data path goes. `headwater artifacts gc` then deletes what no run needs any more.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.card.funnel import frontiers, open_frontier
from components.crawl.urls import normalise
from components.dedup.clusters import KEPT
from components.documents import dropped_paths, iter_ledger, shard_paths
from components.errors import ConfigError, MachineError
from components.opt_outs import FILE, OptOuts, read_entries
from components.publish import publish_bytes
from pipelines.config import Settings
from pipelines.engine.lock import try_lock
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store
from pipelines.verbs.data_chain import Link, holds
from pipelines.verbs.data_checks import has_ids, read_ids
from pipelines.verbs.data_lookup import is_id, named_batches, names_with_prefix
from pipelines.verbs.data_text import aligned, as_json, harmless, number
from pipelines.verbs.data_visits import listed, steps_of, training_of
from pipelines.verbs.lineage import Manifests
from pipelines.verbs.planning import open_store

ID_CHARS = 32
SHOWN_COPIES = 5
_SHARD = re.compile(r"(?!documents/|dropped/)\w+/shard-\d+\.arrow")


@dataclass
class Touched:
    """What of an artifact the targets touch.

    Attributes:
        name: STEP@KEY.
        run: The run that made it.
        rows: Row numbers by file; of WARC files the offsets of records.
        steps: Of a model: the optimizer steps that read a piece of it.
        num_steps: Of a model: all its steps.
        made_of: Of a model that was made of a touched one: the name of that.
    """

    name: str
    run: str
    rows: dict[str, list[int]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    num_steps: int = 0
    made_of: str = ""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return dict(vars(self))


def forget(settings: Settings, options: argparse.Namespace) -> int:
    """Lists what targets touch; with `--apply` enters them in the opt-out list, with `--rewrite` runs again.

    Raises:
        ConfigError: If a target is none, or the beginning of an id fits no document or several.
    """
    store = open_store(settings)
    made = list({one.data: one for one in store.manifests() if not store.missing(one)}.values())
    entries = [_entry(store, made, target) for target in options.targets]
    opt_outs = OptOuts(entries)
    names, touched = touches(store, made, opt_outs)
    apply = options.apply or options.rewrite
    added = enter(store.workspace / FILE, entries) if apply else []
    record = {
        "entries": entries,
        "documents": sorted(doc_id.hex() for doc_id in names),
        "artifacts": [one.to_json() for one in touched],
        "copies": copies_of(store, made, opt_outs, set(names.values())),
        "list": str(store.workspace / FILE),
        "applied": apply,
        "added": added,
    }
    print(as_json(record) if options.json else "\n".join(_lines(record, touched)), flush=True)
    return _rewrite(settings, options.json) if options.rewrite else 0


def _rewrite(settings: Settings, as_json: bool) -> int:
    """Runs the newest run's settings again, up to the data card: by now without what was forgotten."""
    from pipelines.verbs.resume import retry

    options = argparse.Namespace(run=None, json=as_json, until=["card"])
    return retry([f"store={settings.store}", f"workspace={settings.workspace}"], options)


def touches(store: Store, made: Sequence[Manifest], opt_outs: OptOuts) -> tuple[dict[bytes, str], list[Touched]]:
    """The ids and URLs of the documents that are covered, and what of each artifact they touch.

    Args:
        store: Where the artifacts are.
        made: Artifacts to look through, each once.
        opt_outs: What is to be forgotten.
    """
    names: dict[bytes, str] = {}
    found: list[Touched] = []
    for one in made:
        if holds(one, "documents"):
            rows = dict(_named_rows(store.fetch(one), opt_outs, names))
            found += [Touched(Link(one.step, one).name, one.run, rows)] if rows else []
    ids, urls = set(names), set(names.values())
    for one in made:
        if holds(one, "warc") and (rows := _records(store.fetch(one), opt_outs, urls)):
            found.insert(0, Touched(Link(one.step, one).name, one.run, rows))
    wanted = np.array(sorted(ids), dtype="S16")
    for one in made:
        rows = _id_rows(store.fetch(one), one, wanted) if len(wanted) else {}
        name = Link(one.step, one).name
        earlier = next((touched for touched in found if touched.name == name), None)
        if rows and earlier:
            earlier.rows |= rows
        elif rows:
            found.append(Touched(name, one.run, rows))
    return names, [*found, *_models(store, made, ids)]


def copies_of(store: Store, made: Sequence[Manifest], opt_outs: OptOuts, urls: Set[str]) -> list[dict[str, str]]:
    """Documents that were dropped as duplicates of a covered one and are not covered themselves.

    Args:
        store: Where the artifacts are.
        made: Artifacts to look through.
        opt_outs: What is to be forgotten.
        urls: URLs of the documents that are covered.
    """
    copies: dict[tuple[str, str], str] = {}
    for one in made:
        for path in dropped_paths(store.fetch(one)) if holds(one, "documents") else ():
            for row in iter_ledger(path):
                kept = row.threshold.partition(KEPT)[2]
                if kept in urls and not opt_outs.entry_for(row.url, row.doc_id):
                    copies[row.url, row.doc_id.hex()] = kept
    return [{"url": url, "id": doc_id, "copy_of": copies[url, doc_id]} for url, doc_id in sorted(copies)]


def enter(path: Path, entries: Sequence[str]) -> list[str]:
    """Adds entries to an opt-out list; returns those it did not have."""
    with try_lock(path.with_suffix(".lock")) as is_free:
        if not is_free:
            raise MachineError("another `data forget --apply` is at work.", str(path), "try again")
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        known = read_entries(path) if path.exists() else []
        new = [entry for entry in dict.fromkeys(entries) if entry not in known]
        lines = text + ("\n" if text and not text.endswith("\n") else "") + "".join(f"{entry}\n" for entry in new)
        if new:
            publish_bytes(path, lines.encode())
    return new


def _entry(store: Store, made: Sequence[Manifest], target: str) -> str:
    """A target as the list has it: a URL in its one spelling, a host in lower case, an id in full."""
    if not is_id(target):
        entry = (normalise(target) or target) if "://" in target else target.lower()
        OptOuts([entry])  # refuses what is neither host nor URL
        return entry
    if len(target) == ID_CHARS:
        return target.lower()
    folders = [store.fetch(one) for one in made if holds(one, "documents")]
    ids = {name.doc_id.hex() for folder in folders for name in names_with_prefix(folder, target)}
    if len(ids) != 1:
        fix = f"one of {', '.join(sorted(ids)[:3])}" if ids else "headwater data peek shows ids"
        raise ConfigError(f"{len(ids)} documents have an id that begins with {target}.", target, fix)
    return ids.pop()


def _named_rows(artifact: Path, opt_outs: OptOuts, names: dict[bytes, str]) -> Iterator[tuple[str, list[int]]]:
    """Rows of documents and of the ledger by file; adds the documents' ids and URLs to `names`."""
    for path in (*shard_paths(artifact), *dropped_paths(artifact)):
        rows: list[int] = []
        before = 0
        for batch in named_batches([path]):
            pairs = zip(batch.column("doc_id").to_pylist(), batch.column("url").to_pylist(), strict=True)
            for row, (doc_id, url) in enumerate(pairs, before):
                if opt_outs.entry_for(url, doc_id):
                    rows.append(row)
                    names[doc_id] = url
            before += batch.num_rows
        if rows:
            yield f"{path.parent.name}/{path.name}", rows


def _records(pages: Path, opt_outs: OptOuts, urls: Set[str]) -> dict[str, list[int]]:
    """Offsets of WARC records by file, also of the pages that documents known by their ids were made of.

    As a crawl's frontier has them; where there is none, by reading the archives.
    """
    from components.crawl.warc_read import read_pages

    found: dict[str, list[int]] = {}
    for path in frontiers(pages):
        with closing(open_frontier(path)) as database:
            query = "SELECT url, warc_file, warc_offset FROM urls WHERE warc_file IS NOT NULL ORDER BY 2, 3"
            for url, file, offset in database.execute(query):
                if url in urls or opt_outs.entry_for(url):
                    found.setdefault(f"warc/{file}", []).append(int(offset))
    for page in () if frontiers(pages) else read_pages(pages / "warc"):
        if page.url in urls or opt_outs.entry_for(page.url):
            found.setdefault(f"warc/{page.file}", []).append(page.offset)
    return found


def _id_rows(artifact: Path, made: Manifest, wanted: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    """Rows by file of tables that know documents by their ids alone: scores, sketches, links, tokens."""
    found: dict[str, list[int]] = {}
    for name in sorted(made.files):
        if _SHARD.fullmatch(name) and has_ids(artifact / name):
            rows = np.flatnonzero(np.isin(read_ids(artifact / name), wanted)).tolist()
            if rows:
                found[name] = rows
    return found


def _models(store: Store, made: Sequence[Manifest], ids: set[bytes]) -> Iterator[Touched]:
    """Models whose training read a piece of a document, and all models made of them."""
    told: set[str] = set()
    manifests = Manifests.of(store)
    for one in made:
        training = training_of(store, one) if ids else None
        if training is None:
            continue
        steps = sorted({step for doc_id in sorted(ids) for step in steps_of(training.visits(doc_id))})
        if steps:
            name = Link(one.step, one).name
            yield Touched(name, one.run, steps=steps, num_steps=training.num_steps)
            yield from _descendants(manifests, one, name, told)


def _descendants(manifests: Manifests, made: Manifest, name: str, told: set[str]) -> Iterator[Touched]:
    waiting = [made]
    while waiting:
        parent = waiting.pop(0)
        for _, child in manifests.by_input.get((parent.step, parent.key), []):
            link = Link(child.step, child)
            if link.name not in told and holds(child, "model"):
                told.add(link.name)
                waiting.append(child)
                yield Touched(link.name, child.run, made_of=name)


def _lines(record: Mapping[str, Any], touched: Sequence[Touched]) -> Iterator[str]:
    num_documents = len(record["documents"])
    of = f"{number(num_documents)} documents, {len(touched)} artifacts touched"
    yield f"{harmless(', '.join(record['entries']))}: {of}"
    rows = [["artifact", "run", "rows", "files", "optimizer steps"]]
    rows += [[one.name, one.run, *_cells(one)] for one in touched]
    if touched:
        yield from aligned(rows)
    if record["copies"]:
        some = ", ".join(copy["url"] for copy in record["copies"][:SHOWN_COPIES])
        more = "" if len(record["copies"]) <= SHOWN_COPIES else ", ... (--json lists all)"
        yield f"{number(len(record['copies']))} copies under other URLs may take their place; name them too: "
        yield f"  {harmless(some)}{more}"
    if record["added"]:
        yield f"entered in {record['list']}: {harmless(', '.join(record['added']))}"
        yield "the next `headwater run` drops them by the rule opt_out; `headwater artifacts gc` deletes what is left"
    elif record["applied"]:
        yield f"{record['list']} has them already"
    else:
        yield "nothing was changed; --apply has them dropped from the next run on, --rewrite at once"


def _cells(one: Touched) -> tuple[str, str, str]:
    if one.made_of:
        return "", "", f"made of {one.made_of}"
    rows = number(sum(map(len, one.rows.values()))) if one.rows else ""
    files = number(len(one.rows)) if one.rows else ""
    steps = f"{number(len(one.steps))} of {number(one.num_steps)}: {listed(one.steps)}" if one.steps else ""
    return rows, files, steps
