"""True similarity of the pairs that met: their shingle sets are read from disk, pair by pair, and compared whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from components.dedup.config import DedupConfig
from components.dedup.groups import distinct_pairs
from components.dedup.runs import Range, read_range, write_run
from components.shardwise import Part, once
from components.sketch.shingles import jaccard
from components.sketch.sketches import SketchReader

_CACHED = 256  # shingle sets kept from pair to pair: those of a cluster come up again and again


@dataclass(frozen=True)
class Verifying:
    """Pairs to compare.

    Attributes:
        pairs: All runs of pairs.
        between: Range of the first of a pair.
        sketches: Sketches of all shards.
        starts: Number of each shard's first document, and of the end.
        config: The thresholds.
        target: The table of edges to write: first, second, similarity, threshold.
    """

    pairs: Sequence[Path]
    between: Range
    sketches: Sequence[Path]
    starts: Sequence[int]
    config: DedupConfig
    target: Path


def verify(task: Verifying) -> Part:
    """Writes the pairs that are alike; its part tells how many were compared."""
    return once(task.target.with_suffix(".json"), lambda: _verify(task))


def _verify(task: Verifying) -> Part:
    pairs = distinct_pairs(read_range(task.pairs, task.between))
    count = len(pairs["first"])
    similarities, thresholds = np.zeros(count), np.ones(count)
    with SketchReader(task.sketches, task.starts) as reader:
        shingles = lru_cache(_CACHED)(reader.shingles)
        facts = lru_cache(_CACHED)(lambda number: (reader.chars(number), reader.lang(number)))
        for row, (first, second) in enumerate(zip(pairs["first"].tolist(), pairs["second"].tolist(), strict=True)):
            similarities[row] = jaccard(shingles(first), shingles(second))
            thresholds[row] = _threshold(task.config, facts(first), facts(second))
    alike = similarities >= thresholds
    table = {**pairs, "similarity": similarities, "threshold": thresholds}
    write_run(task.target, {name: column[alike] for name, column in table.items()})
    return {"compared": count, "alike": int(alike.sum())}


def _threshold(config: DedupConfig, *documents: tuple[int, str]) -> float:
    threshold = config.threshold_of(*(lang for _, lang in documents))
    longest = max(chars for chars, _ in documents)
    return threshold if longest < config.long_chars else max(threshold, config.threshold_long)
