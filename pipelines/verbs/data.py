"""`headwater data ...`: looking into the corpus. Here is `peek`; the other verbs have a module each.

    peek    documents of a step, or what it dropped and by which rule
    why     the way of one document, from the WARC record to the optimizer steps that saw it; and back
    forget  all that a document or host touches, and having it dropped from the next run on
    verify  whether anything vanished on the way
    stats   the corpus in numbers
    tune    what another threshold would change, without running anything

They read artifacts and change none.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from components.documents import Document, Dropped, dropped_paths, iter_ledger, iter_shard, shard_paths
from components.errors import ConfigError, StepError
from components.publish import read_json
from pipelines.config import Settings, load_settings
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Store
from pipelines.verbs.artifacts import find_artifact
from pipelines.verbs.data_chain import UPSTREAM, chain_of, holds
from pipelines.verbs.data_lookup import kept_row
from pipelines.verbs.data_text import as_json, harmless, number, paragraph
from pipelines.verbs.planning import open_store

SHOWN_CHARS = 400


def data(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """`headwater data ACTION`; returns the exit code."""
    return act(load_settings(overrides), options)


def act(settings: Settings, options: argparse.Namespace) -> int:
    """Does what `options.action` names, in the store of the settings; returns the exit code.

    Raises:
        StepError: If a file of an artifact is damaged.
    """
    import pyarrow as pa

    module = "pipelines.verbs.data" if options.action == "peek" else f"pipelines.verbs.data_{options.action}"
    verb = getattr(importlib.import_module(module), options.action)
    try:
        code: int = verb(settings, options)
    except (pa.ArrowException, sqlite3.DatabaseError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _damaged(error) from error
    except OSError as error:
        if error.errno is not None:  # else it is Arrow's word for bytes that make no sense
            raise
        raise _damaged(error) from error
    return code


def _damaged(error: Exception) -> StepError:
    lines = str(error).splitlines()
    return StepError(
        f"a file of the corpus is damaged: {lines[0] if lines else type(error).__name__}.",
        "the artifacts of the run",
        "headwater data verify names it; headwater run --force STEP makes it again",
    )


def peek(settings: Settings, options: argparse.Namespace) -> int:
    """Shows documents of an artifact, or what it dropped.

    Raises:
        ConfigError: If the artifact holds no documents, or nothing fits.
    """
    if options.num < 1:
        raise ConfigError(f"--num is {options.num}.", "headwater data peek", "give 1 or more")
    store = open_store(settings)
    made = artifact_with_documents(store, options.artifact)
    folder = store.fetch(made)
    if options.dropped is None:
        documents = (one for path in shard_paths(folder) for one in iter_shard(path))
        found = [_record(document) for document in islice(_fitting(documents, options), options.num)]
    else:
        _check_rule(folder, made.step, options.dropped)
        found = list(islice(_dropped(store, made, options), options.num))
    if not found:
        raise ConfigError(
            f"no {_wanted(options)} in {made.step}.", f"{made.step}@{made.key[:8]}", "leave an option out"
        )
    if options.json:
        print(as_json(found))
    else:
        print("\n".join(line for record in found for line in _lines(record)))
    return 0


def artifact_with_documents(store: Store, name: str | None) -> Manifest:
    """The artifact that a person means, or the last documents of the newest run.

    Raises:
        ConfigError: If there is none, or it holds no documents.
    """
    if name is None:
        return chain_of(store).path()[-1].made
    made = find_artifact(store, name)
    if not holds(made, "documents"):
        known = ", ".join(link.step for link in chain_of(store).of_kind("holds_documents"))
        raise ConfigError(f"the artifact of {made.step} holds no documents.", name, f"these do: {known}")
    return made


def upstream_of(store: Store, made: Manifest) -> Manifest | None:
    """The artifact whose documents a step read, if it is still there."""
    for name in UPSTREAM:
        record = made.inputs.get(name)
        above = store.lookup(record.step, record.key).manifest if record else None
        if above is not None and holds(above, "documents"):
            return above
    return None


def _check_rule(folder: Path, step: str, rule: str) -> None:
    rules = read_json(folder / "summary.json").get("dropped")
    known = list(rules) if isinstance(rules, Mapping) else []
    if rule and rule not in known:
        near = difflib.get_close_matches(rule, known, n=1)
        fix = f"did you mean {near[0]}?" if near else f"its rules that did: {', '.join(known) or 'none'}"
        raise ConfigError(f"{step} dropped nothing by a rule {rule}.", f"--dropped {rule}", fix)


def _fitting(documents: Iterator[Document], options: argparse.Namespace) -> Iterator[Document]:
    for document in documents:
        text = (options.where or "").casefold()
        places = (document.url, document.title, document.text)
        if options.lang in (None, document.lang) and any(text in place.casefold() for place in places):
            yield document


def _dropped(store: Store, made: Manifest, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Ledger rows that fit, each with its document where the step before still has it."""
    above = upstream_of(store, made)
    source = store.fetch(above) if above else None
    for path in dropped_paths(store.fetch(made)):
        for row in iter_ledger(path):
            if options.dropped not in ("", row.rule):
                continue
            found = kept_row(source, row.doc_id) if source else None
            if found is not None:
                if list(_fitting(iter([found[1]]), options)):
                    yield _record(found[1]) | _verdict(row)
            elif options.lang is None and (options.where or "").casefold() in row.url.casefold():
                yield {"doc_id": row.doc_id.hex(), "url": row.url} | _verdict(row)


def _verdict(row: Dropped) -> dict[str, str]:
    return {"rule": row.rule, "value": row.value, "threshold": row.threshold}


def _record(document: Document) -> dict[str, Any]:
    fields = {name: getattr(document, name) for name in ("source", "url", "lang", "script", "date", "licence")}
    fields |= {"opt_out": document.opt_out, "quality": document.quality, "cluster": document.cluster.hex()}
    fields |= {"cluster_size": document.cluster_size, "title": document.title, "chars": len(document.text)}
    return {"doc_id": document.doc_id.hex()} | fields | {"text": document.text}


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"{record['doc_id']}  {harmless(str(record['url']))}"
    if "rule" in record:
        yield f"  dropped by {record['rule']}: {harmless(record['value'])} against {harmless(record['threshold'])}"
    if "text" in record:
        facts = [record[name] for name in ("lang", "script", "date", "licence", "opt_out") if record[name]]
        facts.append(f"{number(record['chars'])} characters")
        if record["cluster_size"] > 1:
            facts.append(f"stands for {record['cluster_size']}")
        yield f"  {', '.join(facts)}{': ' + harmless(record['title']) if record['title'] else ''}"
        yield from (f"  | {line}" for line in paragraph(record["text"], SHOWN_CHARS))
    yield ""


def _wanted(options: argparse.Namespace) -> str:
    kind = "documents" if options.dropped is None else "dropped documents"
    lang = f" in language {options.lang}" if options.lang else ""
    where = f" with '{options.where}'" if options.where else ""
    return f"{kind}{lang}{where}"
