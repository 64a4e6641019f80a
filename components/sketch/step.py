"""Sketches every document, so that finding copies reads no text and a moved threshold hashes nothing again.

    sketches/shard-00000.arrow ...    components.sketch.sketches.SKETCHES, a row for each document in `doc_id` order
    sketches.json                     the settings; sketches of other settings cannot be compared

The step belongs before the one that drops documents by thresholds: `dedup` takes the rows of those that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from components.context import Context, Metrics
from components.shardwise import Part, link_tree, map_in_waves, once, work_folder
from components.sketch.config import SketchConfig, settings_of

VERSION = 1


def sketch(ctx: Context, config: SketchConfig, documents: Path) -> Metrics:
    """Writes a sketch of every document.

    Args:
        ctx: The step's context.
        config: What is kept of a text.
        documents: A documents artifact.

    Returns:
        read, and shingles, lines and passages (how many hashes of each kind there are).
    """
    from components.documents import shard_paths
    from components.publish import publish_json

    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, shards)
    tasks = [_Task(path, work, config) for path in shards]
    parts = map_in_waves(ctx, _sketch_shard, tasks, config.shards_at_once, "shards")
    link_tree(work / "tables", ctx.output)
    publish_json(ctx.output / "sketches.json", settings_of(config))
    return {name: float(sum(int(str(part[name])) for part in parts)) for name in _COUNTS}


_COUNTS = ("read", "shingles", "lines", "passages")


@dataclass(frozen=True)
class _Task:
    """One shard to sketch, and the folder its results go to."""

    path: Path
    work: Path
    config: SketchConfig


def _sketch_shard(task: _Task) -> Part:
    return once(task.work / "parts" / f"{task.path.stem}.json", lambda: _do_sketch_shard(task))


def _do_sketch_shard(task: _Task) -> Part:
    from components.documents import iter_shard
    from components.sketch.batch import TOGETHER, sketches_of
    from components.sketch.sketches import SketchWriter

    counts = dict.fromkeys(_COUNTS, 0)
    documents = iter_shard(task.path)
    groups = iter(lambda: list(islice(documents, TOGETHER)), [])
    with SketchWriter(task.work / "tables" / "sketches" / task.path.name) as writer:
        for row in (row for group in groups for row in sketches_of(group, task.config)):
            writer.add(row)
            sizes = (1, len(row.shingles), len(row.lines), len(row.passages))
            counts = {name: counts[name] + size for name, size in zip(_COUNTS, sizes, strict=True)}
    return dict(counts)
