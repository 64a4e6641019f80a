"""`headwater data stats`: the corpus in numbers, counted from columns and summaries, never from texts in memory.

Without an artifact: the whole path of a run, as the data card has it. With one: that artifact alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.card.census import count_all
from components.card.config import CardConfig
from components.card.describe import Sources, describe
from components.documents import shard_paths
from pipelines.config import Settings
from pipelines.verbs.data import artifact_with_documents
from pipelines.verbs.data_chain import Chain, Link, chain_of
from pipelines.verbs.data_text import aligned, as_json, harmless, number, share
from pipelines.verbs.planning import open_store

TOP = 10
_GROUPS = {"lang": "language", "script": "script", "source": "source", "host": "host", "licence": "licence"}


def stats(settings: Settings, options: argparse.Namespace) -> int:
    """Counts the documents of an artifact, or of a whole run.

    Raises:
        ConfigError: If there are no documents.
    """
    store = open_store(settings)
    if options.artifact:
        made = artifact_with_documents(store, options.artifact)
        chain = Chain(store, made.run, {made.step: Link(made.step, made)})
    else:
        chain = chain_of(store, options.run_id)
    record = counted(chain)
    if options.json:
        print(as_json(record))
    else:
        print("\n".join(_lines(record)))
    return 0


def counted(chain: Chain) -> dict[str, Any]:
    """What a card says of the path of a run."""
    path = chain.path()
    config = CardConfig(name=path[-1].name, top=TOP)
    census = count_all(shard_paths(chain.folder(path[-1])))
    tokens = next((chain.folder(link) for link in chain.of_kind("holds_tokens")), None)
    vocabulary = chain.links.get("tokenizer")
    plan = next(iter(chain.of_kind("holds_plan")), None)
    sources = Sources(
        {link.step: chain.folder(link) for link in path},
        chain.folder(vocabulary) if vocabulary else None,
        tokens,
        chain.folder(plan) if plan else None,
    )
    return {"run": chain.run, **describe(config, census, sources)}


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    totals = record["totals"]
    tokens = f", {number(totals['tokens'])} tokens" if "tokens" in totals else ""
    yield f"{record['name']}: {number(totals['documents'])} documents, {number(totals['chars'])} characters{tokens}"
    yield from _table("funnel", _funnel(record["funnel"]))
    yield from _table("dropped", _rules(record["funnel"]))
    for group, title in _GROUPS.items():
        yield from _table(title, _group(title, record["groups"][group], totals))
    lengths = record["lengths"]
    yield from _table("characters of a document", [list(lengths), [number(value) for value in lengths.values()]])
    yield from _table("splits", _splits(record["splits"]))
    if record["pii"]:
        yield from _table("personal data masked", [["kind", "pieces"], *_pairs(record["pii"])])
    yield from (f"does not add up: {harmless(fault)}" for fault in record["faults"])


def _table(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if len(rows) > 1:
        yield ""
        yield title
        yield from aligned(rows)


def _funnel(stages: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["step", "read", "kept", "", "dropped", "characters", "by language"]]
    for stage in stages:
        dropped = sum(stage["dropped"].values())
        languages = ", ".join(f"{name} {number(count)}" for name, count in list(stage["languages"].items())[:3])
        chars = "" if stage["chars"] is None else number(stage["chars"])
        counts = (number(stage["read"]), number(stage["kept"]), share(stage["kept"], stage["read"]), number(dropped))
        rows.append([stage["step"], *counts, chars, languages])
    return rows


def _rules(stages: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    ranked = sorted(
        ((count, stage["step"], rule, stage["read"]) for stage in stages for rule, count in stage["dropped"].items()),
        key=lambda row: (-row[0], row[1], row[2]),
    )
    rows = [[step, harmless(rule), number(count), share(count, read)] for count, step, rule, read in ranked[:TOP]]
    return [["step", "rule", "dropped", "of what it read"], *rows]


def _group(title: str, table: Mapping[str, Mapping[str, int]], totals: Mapping[str, int]) -> list[list[str]]:
    rows = [
        [
            harmless(value, 60) or "(not said)",
            *(cell for key in ("documents", "chars") for cell in (number(row[key]), share(row[key], totals[key]))),
        ]
        for value, row in table.items()
    ]
    return [[title, "documents", "", "characters", ""], *rows]


def _splits(splits: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    rows = [[name, *(number(row[key]) for key in ("documents", "tokens", "bytes"))] for name, row in splits.items()]
    return [["split", "documents", "tokens", "bytes"], *rows]


def _pairs(table: Mapping[str, int]) -> list[list[str]]:
    return [[name, number(value)] for name, value in table.items()]
