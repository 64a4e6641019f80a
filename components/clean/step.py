"""Drops the documents nobody should learn from, each with the rule, the value and the threshold that did it.

    documents/, dropped/, summary.json     see components.documents

Decides by the scores that the step `score` stored: no text is measured here, so another threshold takes seconds. What
becomes of a document depends on its own row alone (`decide.py`); only caps per host and source (`caps.py`) look at what
lies before it, and take one more pass over the scores. Shards are worked on side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
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
    import pyarrow as pa

    from components.clean.decide import Verdicts
    from components.clean.profiles import RuleBook

VERSION = 2


def clean(
    ctx: Context,
    config: CleanConfig,
    documents: Path,
    rules: Path | None = None,
    quality: Path | None = None,
    opt_out: Path | None = None,
) -> Metrics:
    """Keeps the documents that break no rule.

    Args:
        ctx: The step's context.
        config: Languages, caps, and thresholds that differ from the rules.
        documents: The artifact of the step `score`: documents and their scores.
        rules: A YAML file of rules, see `profiles.py`; None for those of the package.
        quality: The artifact of the step `quality`, made of the same documents.
        opt_out: A list of hosts, pages and documents that are dropped whatever the config says, see
            `components.opt_outs`.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages, and
        dropped_<rule> of the three rules that dropped most.

    Raises:
        ConfigError: If the rules or the opt-out list are refused, or the config names a rule or profile that there is
            not.
        StepError: If there is no document to read, none is kept, or scores are missing or of other documents.
    """
    from components.clean.profiles import builtin_rules, load_rules, with_thresholds
    from components.documents import shard_paths, write_summary
    from components.opt_outs import OptOuts, read_entries
    from components.score.table import score_path

    rules = rules or builtin_rules()
    lists = [opt_out] if opt_out else []
    if opt_out:
        OptOuts(read_entries(opt_out))  # a wrong entry is told now, not by a worker
    book = with_thresholds(load_rules(rules), config)
    shards = shard_paths(documents)
    sides = [[score_path(artifact, path) for artifact in (documents, quality) if artifact] for path in shards]
    work = work_folder(ctx, VERSION, config, [*shards, *(path for side in sides for path in side), rules, *lists])
    tasks = [
        _Task(path, tuple(side), index, work, config, book, opt_out)
        for index, (path, side) in enumerate(zip(shards, sides, strict=True))
    ]
    for kind in _capped(config):
        _count_before(ctx, tasks, kind)
    parts = map_in_waves(ctx, _clean_shard, tasks, config.shards_at_once, "shards")
    link_tree(work / "tables", ctx.output)
    summary = write_summary(ctx.output, parts)
    if not summary["kept"]:
        raise _nothing_kept(summary, config, book)
    dropped = {f"dropped_{rule}": float(count) for rule, count in dropped_by_rule(summary)[:3]}
    return metrics_of(summary) | dropped


@dataclass(frozen=True)
class _Task:
    """One shard to clean, and the folder its results go to."""

    path: Path
    sides: tuple[Path, ...]
    index: int
    work: Path
    config: CleanConfig
    book: RuleBook
    opt_out: Path | None

    def counted(self, kind: str) -> Path:
        """Where the counts of this shard by host or source lie."""
        return self.work / "counts" / kind / f"{self.index:05d}.json"

    def before(self, kind: str) -> Path:
        """Where lies what the shards before this one counted."""
        return self.work / "before" / kind / f"{self.index:05d}.json"


@dataclass(frozen=True)
class _Count:
    """One shard whose documents are counted by host or source."""

    task: _Task
    kind: str


def _capped(config: CleanConfig) -> list[str]:
    from components.clean.caps import KINDS, is_capped

    return [kind for kind in KINDS if is_capped(config, kind)]


def _count_before(ctx: Context, tasks: list[_Task], kind: str) -> None:
    """Leaves beside every task what the shards before it keep of its hosts or sources."""
    from components.clean.caps import sums_before
    from components.publish import publish_json

    counts = [_Count(task, kind) for task in tasks]
    found = map_in_waves(ctx, _count_shard, counts, tasks[0].config.shards_at_once if tasks else 1, f"{kind}s counted")
    for task, before in zip(tasks, sums_before(found), strict=True):
        publish_json(task.before(kind), before)


def _count_shard(count: _Count) -> dict[str, list[int]]:
    return once(count.task.counted(count.kind), lambda: dict(_do_count_shard(count)))  # type: ignore[return-value]


def _do_count_shard(count: _Count) -> dict[str, list[int]]:
    from components.clean.caps import owners_of

    seen: dict[str, list[int]] = {}
    kinds = _capped(count.task.config)
    for documents, scores, verdicts in _judge(count.task, kinds[: kinds.index(count.kind)]):
        lengths = scores.column("chars").to_pylist()
        for owner, chars, kept in zip(owners_of(documents, count.kind), lengths, verdicts.kept, strict=True):
            if owner and kept:
                sums = seen.setdefault(owner, [0, 0])
                sums[0] += 1
                sums[1] += int(chars)
    return seen


def _judge(task: _Task, caps: list[str]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, Verdicts]]:
    """The short columns of a shard's documents with their scores and verdicts, batch by batch."""
    from components.clean.caps import Counts, apply_cap
    from components.clean.decide import decide
    from components.opt_outs import OptOuts, read_entries
    from components.publish import read_json
    from components.score.table import iter_scored

    listed = OptOuts(read_entries(task.opt_out)) if task.opt_out else None
    seen: dict[str, Counts] = {kind: read_json(task.before(kind)) for kind in caps}  # type: ignore[misc]
    for documents, scores, *quality in iter_scored(task.path, *task.sides):
        numbers = quality[0].column("quality").to_numpy() if quality else None
        verdicts = decide(scores, documents, task.book, task.config, numbers, listed)
        for kind in caps:
            apply_cap(documents, scores, verdicts, task.config, kind, seen[kind])
        yield documents, scores, verdicts


def _clean_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_clean_shard(task))


def _do_clean_shard(task: _Task) -> Part:
    from components.documents import Dropped, ShardWriter, iter_shard
    from components.score.table import iter_scored

    rows = iter_shard(task.path)
    qualities = (
        (value for _, _, side in iter_scored(task.path, *task.sides) for value in side.column("quality").to_pylist())
        if len(task.sides) > 1
        else None
    )
    with ShardWriter(task.work / "tables", task.index) as writer:
        for documents, _, verdicts in _judge(task, _capped(task.config)):
            judged = zip(
                islice(rows, documents.num_rows), verdicts.rules, verdicts.values, verdicts.thresholds, strict=True
            )
            for document, rule, value, threshold in judged:
                score = document.quality if qualities is None else next(qualities)
                if rule:
                    writer.drop(Dropped(document.doc_id, document.url, rule, value, threshold))
                else:
                    writer.keep(replace(document, quality=None if score != score else score))
    return writer.part


def _nothing_kept(summary: Part, config: CleanConfig, book: RuleBook) -> StepError:
    """The sentence for rules that nothing passes, with the setting of the one that dropped most."""
    from components.clean.config import OVERRIDES

    if not summary["read"]:
        return StepError(
            "clean was given 0 documents.",
            where="the documents of the step before",
            fix="look at that step's summary.json for what it dropped",
        )
    what = f"clean kept 0 of {summary['read']} documents ({rules_told(summary)})."
    rule = dropped_by_rule(summary)[0][0]
    if rule == "language":
        told = ",".join(config.languages)
        return StepError(what, f"clean.languages={told}", "add the language of these documents to clean.languages")
    if rule in ("opt_out", "licence"):
        key = "keep_opted_out" if rule == "opt_out" else "licences"
        return StepError(what, f"clean.{key}={getattr(config, key)}", f"change clean.{key}, or crawl other sites")
    if getattr(config, rule, None) is not None:
        fix = f"run again with clean.{rule}=null, which leaves it to the rules"
        return StepError(what, f"clean.{rule}={getattr(config, rule)}", fix)
    key = f"clean.{rule}" if rule in OVERRIDES else f"clean.thresholds.{rule}"
    thresholds = sorted({one.threshold for rules in book.profiles.values() for one in rules if one.name == rule})
    where = f"the rule {rule} ({', '.join(f'{value:g}' for value in thresholds)})"
    return StepError(what, where, f"loosen {key}, or crawl pages with more text")
