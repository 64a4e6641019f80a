"""Takes what a model is judged by out of what it learns from, and proves in every run that it finds it.

    documents/, dropped/, summary.json    see components.documents
    cuts/shard-00000.arrow ...            with action "cut": CUTS, each passage that was taken out and its item
    report.json                           recall on planted leaks, and what was found of each item

Evaluation items are indexed once; then every shard is read once, a document at a time. Items that prove nothing, such
as a greeting that anybody may use, are not looked for, and the report says which those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.decontaminate.config import DecontaminateConfig
from components.shardwise import Part, link_tree, map_in_waves, metrics_of, once, work_folder

if TYPE_CHECKING:
    from components.decontaminate.items import Item
    from components.decontaminate.probes import Proof

VERSION = 1


def decontaminate(
    ctx: Context,
    config: DecontaminateConfig,
    documents: Path,
    instructions: Path | None = None,
    preferences: Path | None = None,
    benchmarks: Path | None = None,
) -> Metrics:
    """Cuts evaluation items out of the documents, or drops the documents that hold them.

    Args:
        ctx: The step's context.
        config: What a leak is.
        documents: A documents artifact.
        instructions: Artifact of the step `instructions`; its held-out dialogues are looked for.
        preferences: Artifact of the step `preferences`; its held-out pairs and prompts are looked for.
        benchmarks: A file of JSON lines or a folder of them, see `items`.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages; items, checked (items that
        are looked for), leaked (items found), contaminated (documents with an item), cut_chars; recall on the planted
        leaks, recall_<disguise>, and false_hits (share of made-up documents without an item in which one was found).

    Raises:
        StepError: If there is no item, or a row of the benchmarks cannot be used.
    """
    from components.decontaminate.index import CHECKED, build_index, open_index
    from components.decontaminate.items import read_items
    from components.decontaminate.probes import prove
    from components.documents import shard_paths, write_summary
    from components.publish import publish_json

    items = read_items(instructions, preferences, benchmarks)
    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, [*shards, *_files_of(instructions, preferences, benchmarks)])
    states = build_index(items, config, work / "index")
    proof = prove(items, states, open_index(work / "index"), config, ctx.seed("probes"))
    tasks = [_Task(path, index, work, config, [item.id for item in items]) for index, path in enumerate(shards)]
    parts = map_in_waves(ctx, _search_shard, tasks, config.shards_at_once, "shards")
    link_tree(work / "tables", ctx.output)
    summary = write_summary(ctx.output, parts)
    found = _added_up(parts)
    publish_json(ctx.output / "report.json", _report(items, states, found, proof))
    return metrics_of(summary) | {
        "items": float(len(items)),
        "checked": float(states.count(CHECKED)),
        "leaked": float(len(found)),
        "contaminated": float(sum(int(str(part["contaminated"])) for part in parts)),
        "cut_chars": float(sum(int(str(part["cut_chars"])) for part in parts)),
        **_proven(proof),
    }


def _files_of(*inputs: Path | None) -> list[Path]:
    given = [path for path in inputs if path is not None]
    return [
        file for path in given for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()
    ]


def _proven(proof: Proof) -> Metrics:
    shares = {f"recall_{name}": proof.found[name] / count for name, count in proof.planted.items() if count}
    return {"recall": proof.recall, **shares, "false_hits": proof.false_hits / max(1, proof.clean)}


@dataclass(frozen=True)
class _Task:
    """One shard to search, and the folder its results go to."""

    path: Path
    index: int
    work: Path
    config: DecontaminateConfig
    ids: Sequence[str]


def _search_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_search_shard(task))


def _do_search_shard(task: _Task) -> Part:
    from components.decontaminate.sift import sift

    return sift(task.path, task.index, task.work / "tables", task.work / "index", task.config, task.ids)


def _added_up(parts: Sequence[Part]) -> dict[int, tuple[int, float]]:
    """For each item that was found: in how many documents, and how much of it at most."""
    found: dict[int, tuple[int, float]] = {}
    for part in parts:
        rows = part["found"]
        for item, documents, coverage in rows if isinstance(rows, list) else []:
            before, most = found.get(item, (0, 0.0))
            found[item] = before + documents, max(most, coverage)
    return found


def _report(
    items: Sequence[Item], states: Sequence[str], found: dict[int, tuple[int, float]], proof: Proof
) -> dict[str, object]:
    from collections import Counter

    rows = [
        {"id": item.id, "state": state, "documents": documents, "coverage": round(coverage, 4)}
        for number, (item, state) in enumerate(zip(items, states, strict=True))
        for documents, coverage in [found.get(number, (0, 0.0))]
    ]
    planted = {name: {"planted": count, "found": proof.found[name]} for name, count in proof.planted.items()}
    return {
        "states": dict(sorted(Counter(states).items())),
        "leaked": len(found),
        "probes": {
            "recall": proof.recall,
            "disguises": planted,
            "missed": proof.missed,
            "clean": proof.clean,
            "false_hits": proof.false_hits,
        },
        "items": rows,
    }
