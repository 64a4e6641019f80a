"""Work over shards that can be stopped and goes on: waves of `ctx.map`, each shard's result kept in scratch.

A worker writes a shard's files and then its part (the shard's share of the summary) under scratch; a shard that has
its part is done, whoever did it and whenever. Between two waves the step tells how far it is. At the end the finished
files are linked into the output. Results do not depend on the size of a wave.

Also here: what steps over documents say about their summary, as metrics and as a sentence.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from components.configuring import is_runtime
from components.context import Context, Metrics
from components.publish import is_draft, publish_json, read_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
R = TypeVar("R")

Part = dict[str, object]


def map_in_waves(ctx: Context, fn: Callable[[T], R], items: Sequence[T], wave: int, unit: str) -> list[R]:
    """`ctx.map` in waves of `wave` items, telling how far the step is after each.

    Raises:
        Preempted: If the step was asked to stop; what `fn` keeps in scratch is kept.
    """
    results: list[R] = []
    for start in range(0, len(items), wave):
        results += ctx.map(fn, items[start : start + wave])
        ctx.progress(len(results), len(items), unit)
    return results


def work_folder(ctx: Context, version: int, config: DataclassInstance, inputs: Sequence[Path]) -> Path:
    """The folder in scratch for this very work; what other work left there is removed.

    Scratch may outlive a change of settings or inputs (a step run alone twice in one folder), and parts made under
    others must not be taken for parts of this work.

    Args:
        ctx: The step's context.
        version: Version of the step.
        config: Its config; runtime fields do not count.
        inputs: The files it reads, known by name, size and time of change.
    """
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if not is_runtime(f)}
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    digest = hashlib.sha256(repr((version, settings, files)).encode()).hexdigest()[:16]
    for other in ctx.scratch.glob("work-*"):
        if other.name != f"work-{digest}":
            shutil.rmtree(other)
    return ctx.scratch / f"work-{digest}"


def once(part: Path, work: Callable[[], Part]) -> Part:
    """Does a piece of work unless its part is there already, and leaves the part when it is done."""
    if not part.exists():
        publish_json(part, work())
    return read_json(part)


def link_tree(source: Path, target: Path) -> None:
    """Makes the files of one folder appear in another, without copying where the file system can.

    What a worker that was killed had not finished stays behind.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file() and not is_draft(path):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(path, place)


def metrics_of(summary: Part) -> Metrics:
    """Metrics of a documents artifact: read, kept, dropped, chars, share_<language> of the three most frequent ones."""
    languages = Counter(_counts(summary, "languages"))
    metrics: Metrics = {key: float(str(summary[key])) for key in ("read", "kept", "chars")}
    metrics["dropped"] = metrics["read"] - metrics["kept"]
    for name, count in sorted(languages.most_common(3)):
        metrics[f"share_{name}"] = count / metrics["kept"]
    return metrics


def dropped_by_rule(summary: Part) -> list[tuple[str, int]]:
    """The rules with what they dropped, those that dropped most first."""
    return sorted(_counts(summary, "dropped").items(), key=lambda item: (-item[1], item[0]))


def rules_told(summary: Part) -> str:
    """The rules that dropped most, as part of a sentence: "rule min_chars dropped 498"."""
    return ", ".join(f"rule {name} dropped {count}" for name, count in dropped_by_rule(summary)[:3])


def _counts(summary: Part, key: str) -> dict[str, int]:
    counts = summary[key]
    if not isinstance(counts, dict):
        raise ValueError(f"summary.json: {key} is not a table of counts")
    return {str(name): int(count) for name, count in counts.items()}


def _link(path: Path, place: Path) -> None:
    place.unlink(missing_ok=True)  # of an attempt that ended in the middle of this
    try:
        os.link(path, place)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copyfile(path, place)  # another file system, or one without links
