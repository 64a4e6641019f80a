"""Drops the documents nobody should learn from, each with the rule, the value and the threshold that did it.

    documents/, dropped/, summary.json     see components.documents

A text is normalised and measured once; then its language and the table of rules decide. Shards are worked on side by
side, and what becomes of a document depends on that document alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.clean.config import CleanConfig
from components.context import Context, Metrics
from components.errors import StepError
from components.shardwise import (
    Part,
    dropped_by_rule,
    link_tree,
    map_in_waves,
    metrics_of,
    once,
    rules_told,
    work_folder,
)

if TYPE_CHECKING:
    from components.clean.rules import Rule
    from components.documents import Document, Dropped

VERSION = 1


def clean(ctx: Context, config: CleanConfig, documents: Path) -> Metrics:
    """Keeps the documents that break no rule, normalised.

    Args:
        ctx: The step's context.
        config: Thresholds.
        documents: A documents artifact.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages, and
        dropped_<rule> of the three rules that dropped most.

    Raises:
        StepError: If there is no document to read, or none is kept.
    """
    from components.documents import shard_paths, write_summary

    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, shards)
    tasks = [_Task(path, index, work, config) for index, path in enumerate(shards)]
    parts = map_in_waves(ctx, _clean_shard, tasks, config.shards_at_once, "shards")
    link_tree(work / "tables", ctx.output)
    summary = write_summary(ctx.output, parts)
    if not summary["kept"]:
        raise _nothing_kept(summary, config)
    rules = {f"dropped_{rule}": float(count) for rule, count in dropped_by_rule(summary)[:3]}
    return metrics_of(summary) | rules


@dataclass(frozen=True)
class _Task:
    """One shard to clean, and the folder its results go to."""

    path: Path
    index: int
    work: Path
    config: CleanConfig


def _clean_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_clean_shard(task))


def _do_clean_shard(task: _Task) -> Part:
    from components.clean.rules import rules_of
    from components.documents import Document, Outcome, read_shard, write_shard

    outcome = Outcome()
    rules = rules_of(task.config)
    for document in read_shard(task.path):
        result = clean_document(document, task.config.languages, rules)
        if isinstance(result, Document):
            outcome.kept.append(result)
        else:
            outcome.dropped.append(result)
    return write_shard(task.work / "tables", task.index, outcome)


def clean_document(document: Document, languages: tuple[str, ...], rules: tuple[Rule, ...]) -> Document | Dropped:
    """Judges one document: itself with its text normalised, or why it is dropped."""
    from dataclasses import replace

    from components.clean.normalise import normalise, without_faults
    from components.clean.rules import Breach, first_breach
    from components.clean.statistics import measure
    from components.documents import Dropped

    text = normalise(document.text)
    breach = (
        Breach("language", document.lang, ", ".join(languages))
        if languages and document.lang not in languages
        else first_breach(measure(text), document.lang, rules)
    )
    if breach is None:
        return replace(document, text=without_faults(text), title=without_faults(normalise(document.title)))
    return Dropped(document.doc_id, document.url, breach.rule, breach.value, breach.threshold)


def _nothing_kept(summary: Part, config: CleanConfig) -> StepError:
    if not summary["read"]:
        return StepError(
            "clean was given 0 documents.",
            where="the documents of the step before",
            fix="look at that step's summary.json for what it dropped",
        )
    key = "languages" if (rule := dropped_by_rule(summary)[0][0]) == "language" else rule
    value, default = (getattr(one, key) for one in (config, CleanConfig()))
    told = ",".join(default) if isinstance(default, tuple) else default
    return StepError(
        f"clean kept 0 of {summary['read']} documents ({rules_told(summary)}).",
        where=f"clean.{key}={','.join(value) if isinstance(value, tuple) else value}",
        fix=f"run again with clean.{key}={told}"
        if value != default
        else f"loosen clean.{key}, or crawl pages with more text",
    )
