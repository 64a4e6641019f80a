"""Keeps one document of every set of copies: the one with the longest text.

Longest is most letters; of equal ones the one with the fewest marks and spaces wins (copies gather dirt), then the
first by URL, then by id.

    documents/, dropped/, summary.json     see components.documents

Three passes: every shard is sketched (in parallel); all sketches are brought together, candidates compared (in
parallel) and clusters judged; every shard is written again without those that go (in parallel). Sketches are kept in
`ctx.scratch`, so that a stopped step goes on. The middle pass holds bands and URLs of all documents in memory, about
700 bytes a document.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.dedup.config import DedupConfig
from components.errors import StepError
from components.shardwise import Part, link_tree, map_in_waves, metrics_of, once, work_folder

if TYPE_CHECKING:
    from components.dedup.clusters import Verdict
    from components.dedup.sketches import Sketches

VERSION = 1

_PAIRS_AT_ONCE = 2048


def dedup(ctx: Context, config: DedupConfig, documents: Path) -> Metrics:
    """Drops exact and near duplicates.

    Args:
        ctx: The step's context.
        config: What counts as a duplicate.
        documents: A documents artifact.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages, exact and near (documents
        dropped by each rule), pairs (compared), largest (documents of the largest cluster).

    Raises:
        StepError: If there is no document.
    """
    from components.dedup.sketches import open_sketches
    from components.documents import shard_paths, write_summary

    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, shards)
    paths = [work / "sketches" / path.name for path in shards]
    sketching = [_Sketching(*both, config) for both in zip(shards, paths, strict=True)]
    if not sum(map_in_waves(ctx, _sketch, sketching, config.shards_at_once, "shards sketched")):
        raise StepError(
            "dedup was given 0 documents.",
            where="the documents of the step before",
            fix="look at that step's summary.json for what it dropped",
        )
    judged = _judge_all(ctx, config, paths, [open_sketches(path) for path in paths])
    sifting = [_Sifting(path, index, work, judged.losers[index]) for index, path in enumerate(shards)]
    parts = map_in_waves(ctx, _sift, sifting, config.shards_at_once, "shards written")
    link_tree(work / "tables", ctx.output)
    return metrics_of(write_summary(ctx.output, parts)) | judged.metrics


@dataclass(frozen=True)
class _Sketching:
    """One shard to sketch."""

    shard: Path
    sketches: Path
    config: DedupConfig


def _sketch(task: _Sketching) -> int:
    from components.dedup.sketches import open_sketches, write_sketches
    from components.documents import read_shard

    if not task.sketches.exists():
        write_sketches(task.sketches, read_shard(task.shard), task.config)
    return int(open_sketches(task.sketches).batch.num_rows)


@dataclass(frozen=True)
class _Loser:
    """What the ledger says of a document that goes."""

    rule: str
    value: str
    threshold: str


@dataclass(frozen=True)
class _Judged:
    """Who goes: for each shard, by row; and the numbers about it."""

    losers: list[dict[int, _Loser]]
    metrics: Metrics


def _judge_all(ctx: Context, config: DedupConfig, paths: list[Path], shards: list[Sketches]) -> _Judged:
    import numpy as np

    from components.dedup.clusters import candidate_pairs, exact_copies, judge

    places = [(shard, row) for shard, sketches in enumerate(shards) for row in range(sketches.batch.num_rows)]
    places.sort(key=lambda place: shards[place[0]].ranks[place[1]])
    copies = exact_copies([shards[shard].digests[row] for shard, row in places]) if config.exact else {}
    ranks = [rank for rank in range(len(places)) if rank not in copies] if config.near else []
    bands = np.array([shards[shard].bands[row] for shard, row in (places[rank] for rank in ranks)], dtype=np.uint64)
    pairs = candidate_pairs(bands.reshape(len(ranks), config.bands), ranks).tolist()
    blocks = [
        _Block(paths, [(*places[better], *places[worse]) for better, worse in pairs[start : start + _PAIRS_AT_ONCE]])
        for start in range(0, len(pairs), _PAIRS_AT_ONCE)
    ]
    compared = map_in_waves(ctx, _compare, blocks, config.shards_at_once, "blocks compared")
    similarities = [similarity for block in compared for similarity in block]

    def threshold_of(*members: int) -> float:
        longest = max(shards[shard].chars[row] for shard, row in (places[rank] for rank in members))
        return config.threshold if longest < config.long_chars else max(config.threshold, config.threshold_long)

    edges = [(a, b, s) for (a, b), s in zip(pairs, similarities, strict=True) if s >= threshold_of(a, b)]
    verdicts = judge(len(places), copies, edges)
    losers: list[dict[int, _Loser]] = [{} for _ in shards]
    for rank, verdict in verdicts.items():
        shard, row = places[rank]
        won_shard, won_row = places[verdict.winner]
        threshold = threshold_of(rank, verdict.winner) if verdict.rule == "near_duplicate" else 1.0
        told = f"{threshold:g}, kept {shards[won_shard].urls[won_row]}"
        losers[shard][row] = _Loser(verdict.rule, f"{verdict.similarity:.3f}", told)
    return _Judged(losers, _numbers(verdicts, len(pairs)))


def _numbers(verdicts: dict[int, Verdict], num_pairs: int) -> Metrics:
    rules = Counter(verdict.rule for verdict in verdicts.values())
    winners = Counter(verdict.winner for verdict in verdicts.values())
    return {
        "exact": float(rules["exact_duplicate"]),
        "near": float(rules["near_duplicate"]),
        "pairs": float(num_pairs),
        "largest": float(max(winners.values(), default=0) + 1),
    }


@dataclass(frozen=True)
class _Block:
    """Pairs of documents to compare, as (shard, row, shard, row)."""

    paths: list[Path]
    pairs: list[tuple[int, int, int, int]]


def _compare(block: _Block) -> list[float]:
    from components.dedup.shingles import jaccard
    from components.dedup.sketches import open_sketches

    return [
        jaccard(open_sketches(block.paths[a]).shingles(i), open_sketches(block.paths[b]).shingles(j))
        for a, i, b, j in block.pairs
    ]


@dataclass(frozen=True)
class _Sifting:
    """One shard to write again without those that go."""

    shard: Path
    index: int
    work: Path
    losers: dict[int, _Loser]


def _sift(task: _Sifting) -> Part:
    return once(task.work / "parts" / f"{task.index:05d}.json", lambda: _do_sift(task))


def _do_sift(task: _Sifting) -> Part:
    from components.documents import Dropped, Outcome, read_shard, write_shard

    outcome = Outcome()
    for row, document in enumerate(read_shard(task.shard)):
        loser = task.losers.get(row)
        if loser is None:
            outcome.kept.append(document)
        else:
            outcome.dropped.append(Dropped(document.doc_id, document.url, loser.rule, loser.value, loser.threshold))
    return write_shard(task.work / "tables", task.index, outcome)
