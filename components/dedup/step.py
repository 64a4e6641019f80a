"""Keeps one document of every set of copies, marks how many there were, and cuts what many pages have in common.

    documents/, dropped/, summary.json     see components.documents; `cluster` and `cluster_size` filled
    cuts/shard-00000.arrow ...             components.dedup.sift.CUTS: what was cut out of which document
    sketches.json                          settings of the sketches
    memory/                                with `keep_memory`: what a later run needs to go on (see `gather`)

One search after another, each over those that the one before left: versions of one URL; equal texts; similar texts;
then lines and passages that the survivors share. The best of a set stays: most letters, then fewest marks, then the
first URL, then the least id. Versions of one URL do not count into the size of a cluster: a page that was fetched
twice was not copied by anybody.

With `previous`, an earlier artifact with memory, the corpus is the union of its documents and the new ones. All
searches are made over the union, from its sketches; only sketching is saved, and the texts that the new input need not
hold any more. So the bytes are those of one run over the union, whatever came in which order.

Memory does not grow with the corpus (see `runs`), only with the number of duplicates (see `clusters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.dedup.config import DedupConfig
from components.errors import StepError
from components.shardwise import Part, link_tree, map_in_waves, metrics_of, once, work_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from components.dedup.clusters import Members
    from components.dedup.runs import Table

VERSION = 2

_VERIFIED_AT_ONCE = 8  # pairs cost more than entries: a task gets this many times fewer


def dedup(ctx: Context, config: DedupConfig, documents: Path, sketches: Path, previous: Path | None = None) -> Metrics:
    """Drops copies and cuts repeated text.

    Args:
        ctx: The step's context.
        config: What counts as a copy.
        documents: A documents artifact.
        sketches: The artifact of `sketch` over these documents, or over those that they were chosen from.
        previous: An artifact of this step made with `keep_memory`, to go on from; None starts afresh.

    Returns:
        read, kept, dropped, chars, share_<language> of the three most frequent languages; url, exact and near
        (documents that each search found to have a better one), pairs (compared), clusters, largest (documents of the
        largest cluster); cut_documents, cut_lines, cut_passages and cut_chars (of the documents that stay).

    Raises:
        StepError: If there is no document, or the inputs do not fit together.
    """
    from components.documents import shard_paths, write_summary
    from components.publish import publish_json

    settings = _settings_of(sketches, previous)
    shards = shard_paths(documents)
    work = work_folder(ctx, VERSION, config, _inputs(shards, sketches, previous))
    corpus = _gather(ctx, config, shards, sketches, previous, work)
    judged = _judge(corpus)
    parts = _sift(corpus, shards, previous, settings)
    link_tree(work / "tables", ctx.output)
    if config.keep_memory:
        link_tree(work / "sketches", ctx.output / "memory" / "sketches")
    publish_json(ctx.output / "sketches.json", settings)
    return metrics_of(write_summary(ctx.output, parts)) | judged | _metrics_of_cuts(parts)


def _settings_of(sketches: Path, previous: Path | None) -> Part:
    from components.publish import read_json

    settings = read_json(sketches / "sketches.json")
    if previous is None:
        return settings
    if not (previous / "memory").is_dir():
        raise StepError(
            "The earlier artifact of dedup carries no memory, so nothing can go on from it.",
            where=str(previous),
            fix="make it again with dedup.keep_memory=true, or leave dedup.previous out",
        )
    before = read_json(previous / "sketches.json")
    if before != settings:
        changed = sorted(name for name in settings if settings[name] != before.get(name))
        raise StepError(
            f"The earlier artifact of dedup was made with other sketches ({', '.join(changed)} differ).",
            where=str(previous),
            fix="set sketch as it was then, or leave dedup.previous out and read the whole corpus",
        )
    return settings


def _inputs(shards: list[Path], sketches: Path, previous: Path | None) -> list[Path]:
    found = [*shards, *sorted((sketches / "sketches").glob("*.arrow"))]
    return found if previous is None else [*found, *sorted(previous.rglob("*.arrow"))]


@dataclass(frozen=True)
class _Corpus:
    """The sketches of all documents, gathered, and how to search them.

    Attributes:
        ctx: The step's context.
        config: The settings.
        work: Folder of this work in scratch.
        sketches: A file for each shard.
        starts: Number of each shard's first document, and of the end.
    """

    ctx: Context
    config: DedupConfig
    work: Path
    sketches: list[Path]
    starts: list[int]

    def search(self, name: str, passed_over: list[Path]) -> list[Path]:
        """Makes one search, see `groups`; returns its tables."""
        from components.dedup.groups import Grouping, Scattering, group, scatter
        from components.dedup.runs import key_ranges

        folder = self.work / name
        scattering = [
            Scattering(name, path, start, self.config, passed_over, folder / "runs")
            for path, start in zip(self.sketches, self.starts, strict=False)
        ]
        parts = map_in_waves(self.ctx, scatter, scattering, self.config.shards_at_once, f"shards searched for {name}")
        runs = [folder / "runs" / name for part in parts for name in _names(part)]
        if not runs:
            return []
        ranges = key_ranges(sum(int(str(part["rows"])) for part in parts), self.config.rows_at_once)
        grouping = [
            Grouping(name, runs, between, folder / f"groups-{index:05d}.arrow") for index, between in enumerate(ranges)
        ]
        return map_in_waves(self.ctx, group, grouping, self.config.shards_at_once, f"ranges grouped for {name}")

    def members(self, *edges: Table) -> Members:
        """What a judge must know of the documents that edges join."""
        from components.dedup.clusters import describe, describing, members_of, ranked

        tasks = describing(self.sketches, self.starts, members_of(*edges))
        return ranked(map_in_waves(self.ctx, describe, tasks, self.config.shards_at_once, "shards asked"))


def _names(part: Part) -> list[str]:
    names = part["runs"]
    return [str(name) for name in names] if isinstance(names, list) else []


@dataclass(frozen=True)
class _Gathering:
    """One shard whose sketches are brought together."""

    documents: Path
    sketches: Path
    previous: Path | None
    target: Path


def _gather_shard(task: _Gathering) -> int:
    from components.dedup.gather import gather_sketches

    def do() -> Part:
        return {"read": gather_sketches(task.documents, task.sketches, task.previous, task.target)}

    return int(str(once(task.target.with_name(f"{task.target.stem}.json"), do)["read"]))


def _gather(
    ctx: Context, config: DedupConfig, shards: list[Path], sketches: Path, previous: Path | None, work: Path
) -> _Corpus:
    from itertools import accumulate

    _refuse_other_shards(shards, sketches / "sketches", "sketches")
    if previous is not None:
        _refuse_other_shards(shards, previous / "documents", "the earlier artifact of dedup")
    targets = [work / "sketches" / path.name for path in shards]
    tasks = [
        _Gathering(path, sketches / "sketches" / path.name, previous, target)
        for path, target in zip(shards, targets, strict=True)
    ]
    counts = map_in_waves(ctx, _gather_shard, tasks, config.shards_at_once, "shards gathered")
    if not sum(counts):
        raise StepError(
            "dedup was given 0 documents.",
            where="the documents of the step before",
            fix="look at that step's summary.json for what it dropped",
        )
    return _Corpus(ctx, config, work, targets, [0, *accumulate(counts)])


def _refuse_other_shards(shards: list[Path], folder: Path, whose: str) -> None:
    names = [path.name for path in sorted(folder.glob("shard-*.arrow"))]
    if names != [path.name for path in shards]:
        raise StepError(
            f"The documents come in {len(shards)} shards, {whose} in {len(names)}.",
            where=str(folder),
            fix="make both with one number of shards",
        )


def _judge(corpus: _Corpus) -> Metrics:
    """Finds versions, copies and look-alikes; writes the verdicts, and who takes no part in what follows."""
    from components.dedup.clusters import HEADS, judge_clusters, judge_versions, others_of, write_verdicts
    from components.dedup.runs import read_all, write_run

    config, work = corpus.config, corpus.work
    versions = read_all(corpus.search("url", []) if config.url else [], HEADS)
    by_url = judge_versions(corpus.members(versions), versions)
    write_run(work / "versions.arrow", others_of(by_url))
    copied = corpus.search("exact", [work / "versions.arrow"]) if config.exact else []
    copies = read_all(copied, HEADS)
    pairs, edges = _alike(corpus, [work / "versions.arrow", *copied])
    clusters = judge_clusters(corpus.members(copies, edges), copies, edges, config.drop_near)
    write_verdicts(work / "verdicts.arrow", [by_url, clusters])
    write_run(work / "left-out.arrow", others_of(by_url, clusters))
    return _metrics_of_verdicts(by_url, clusters) | {"pairs": float(pairs)}


def _alike(corpus: _Corpus, passed_over: list[Path]) -> tuple[int, Table]:
    """The number of pairs compared, and those that are alike."""
    from components.dedup.clusters import EDGES
    from components.dedup.runs import even_ranges, read_all
    from components.dedup.verify import Verifying, verify

    config = corpus.config
    if not config.near:
        return 0, read_all([], EDGES)
    pairs = corpus.search("near", passed_over)
    ranges = even_ranges(pairs, config.rows_at_once // _VERIFIED_AT_ONCE)
    tasks = [
        Verifying(pairs, between, corpus.sketches, corpus.starts, config, corpus.work / f"edges-{index:05d}.arrow")
        for index, between in enumerate(ranges)
    ]
    parts = map_in_waves(corpus.ctx, verify, tasks, config.shards_at_once, "ranges of pairs compared")
    edges = read_all([task.target for task in tasks], EDGES)
    return sum(int(str(part["compared"])) for part in parts), edges


def _metrics_of_verdicts(by_url: pa.Table, clusters: pa.Table) -> Metrics:
    from collections import Counter

    rules = Counter(clusters.column("rule").to_pylist())
    return {
        "url": float(by_url.num_rows),
        "exact": float(rules["exact_duplicate"]),
        "near": float(rules["near_duplicate"]),
        "clusters": float(rules[""]),
        "largest": float(max(clusters.column("cluster_size").to_pylist(), default=1)),
    }


def _sift(corpus: _Corpus, shards: list[Path], previous: Path | None, settings: Part) -> list[Part]:
    """Searches what the survivors share, and writes all shards."""
    from components.dedup.sift import Sifting, sift

    config, work = corpus.config, corpus.work
    left_out = [work / "left-out.arrow"]
    lines = corpus.search("lines", left_out) if config.host_line_documents or config.line_documents else []
    passages = corpus.search("passages", left_out) if config.cut_passages else []
    passage_chars = (int(str(settings["passage_chars_zh"])), int(str(settings["passage_chars"])))
    tasks = [
        Sifting(
            documents=path,
            previous=previous,
            sketches=sketches,
            start=start,
            index=index,
            verdicts=work / "verdicts.arrow",
            lines=lines,
            passages=passages,
            passage_chars=passage_chars,
            config=config,
            tables=work / "tables",
        )
        for index, (path, sketches, start) in enumerate(zip(shards, corpus.sketches, corpus.starts, strict=False))
    ]
    return map_in_waves(corpus.ctx, sift, tasks, config.shards_at_once, "shards written")


def _metrics_of_cuts(parts: list[Part]) -> Metrics:
    names = ("cut_documents", "cut_lines", "cut_passages", "cut_chars")
    return {name: float(sum(int(str(part[name])) for part in parts)) for name in names}
