"""Takes over corpora that are there already, in place of a crawl.

`ingest_warc` copies the pages of WARC files into a crawl-like artifact, which `extract` reads:
    warc/00000-<name>.warc.gz ...          one for each input file
    summary.json                           records read, kept and skipped by reason, for each file and in all

`ingest_files` makes documents of the rows of JSONL, Parquet and text files:
    documents/, dropped/, summary.json     see components.documents

Both share the input out in pieces that do not depend on one another; a finished piece is kept in `ctx.scratch`, so that
a stopped or killed step goes on behind it. What comes out depends on names and contents of the files alone.
"""

from __future__ import annotations

import dataclasses
import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.ingest.config import IngestFilesConfig, IngestWarcConfig
from components.publish import publish_json
from components.shardwise import Part, link_tree, map_in_waves, metrics_of, rules_told, work_folder

if TYPE_CHECKING:
    from components.documents import Document, Dropped

VERSION = 1

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS = 100


def ingest_warc(ctx: Context, config: IngestWarcConfig) -> Metrics:
    """Copies the HTML pages of WARC files.

    Returns:
        files, read, kept, skipped (records), bytes (of the copied records), damaged (files).

    Raises:
        ConfigError: If a path names no file.
        StepError: If a file is damaged, one has changed since the plan, or no page is found.
    """
    from components.ingest.archives import CopyTask, copy_archive
    from components.ingest.sources import check_unchanged, find_sources

    sources = find_sources(config.paths, "warc")
    known = dataclasses.replace(config, fingerprint=check_unchanged(config.fingerprint, sources))
    work = work_folder(ctx, VERSION, known, [])
    names = [f"{number:05d}-{_short_name(source.name)}.warc.gz" for number, source in enumerate(sources)]
    places = [(work / "warc" / name, work / "parts" / f"{name}.json") for name in names]
    tasks = [CopyTask(one, *place, config) for one, place in zip(sources, places, strict=True)]
    parts = map_in_waves(ctx, copy_archive, tasks, config.wave_files, "files")
    for left_over in (work / "warc").glob(".*.tmp"):  # of workers that were killed
        left_over.unlink()
    link_tree(work / "warc", ctx.output / "warc")
    summary = _summary_of(parts)
    publish_json(ctx.output / "summary.json", summary)
    if not summary["kept"]:
        raise StepError(
            f"No page of the {len(sources)} WARC files can be used: {summary['skipped'] or 'they hold no answers'}.",
            where="source.paths",
            fix="check that they hold HTML answers, or set ingest_warc.content_types to what they hold",
        )
    kept, read, size = (float(str(summary[key])) for key in ("kept", "read", "bytes"))
    damaged = float(sum(bool(part["damage"]) for part in parts))
    return {
        "files": float(len(sources)),
        "read": read,
        "kept": kept,
        "skipped": read - kept,
        "bytes": size,
        "damaged": damaged,
    }


def ingest_files(ctx: Context, config: IngestFilesConfig) -> Metrics:
    """Makes documents of the rows of files.

    Returns:
        read, kept, dropped (rows), chars (of text), share_<language> for the three most frequent languages.

    Raises:
        ConfigError: If a path names no file.
        StepError: If a file is damaged, one has changed since the plan, or no row has a text.
    """
    from components.documents import write_summary
    from components.ingest.pieces import make_documents, plan_tasks
    from components.ingest.sources import check_unchanged, find_sources

    sources = find_sources(config.paths, "files")
    known = dataclasses.replace(config, fingerprint=check_unchanged(config.fingerprint, sources))
    work = work_folder(ctx, VERSION, known, [])
    tasks = plan_tasks(ctx, sources, config, work)
    parts = map_in_waves(ctx, make_documents, tasks, config.wave_pieces, "pieces")
    runs = [task.folder / name for task, part in zip(tasks, parts, strict=True) for name in _names(part, "runs")]
    kept, dropped = _condensed(work / f"merged-{config.piece_mib}", runs)
    shards = [_Assembly(kept, dropped, ctx.output, index, config.shards) for index in range(config.shards)]
    summary = write_summary(ctx.output, map_in_waves(ctx, _assemble, shards, len(shards), "shards"))
    if not summary["kept"]:
        raise _nothing_kept(summary, parts, config)
    return metrics_of(summary)


def _short_name(name: str) -> str:
    stem = re.sub(r"\.warc(\.gz|\.zst)?$", "", name, flags=re.IGNORECASE)
    return _UNSAFE.sub("-", stem)[-_MAX_NAME_CHARS:]


def _summary_of(parts: Sequence[Part]) -> Part:
    skipped: Counter[str] = Counter()
    for part in parts:
        counts = part["skipped"]
        skipped.update(counts if isinstance(counts, dict) else {})
    total = {key: sum(int(str(part[key])) for part in parts) for key in ("read", "kept", "bytes")}
    return {**total, "skipped": dict(sorted(skipped.items())), "files": list(parts)}


def _names(part: Part, key: str) -> list[str]:
    names = part[key]
    return [str(name) for name in names] if isinstance(names, list) else []


def _condensed(place: Path, runs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The runs' documents and ledgers, merged until they are few enough to be read side by side."""
    from components.documents import DOCUMENTS, DROPPED, condense, dropped_paths, shard_paths

    kept = [path for run in runs for path in shard_paths(run)]
    dropped = [path for run in runs for path in dropped_paths(run)]
    return condense(kept, place / "documents", DOCUMENTS), condense(dropped, place / "dropped", DROPPED)


@dataclass(frozen=True)
class _Assembly:
    """One shard to be put together from sorted files."""

    kept: list[Path]
    dropped: list[Path]
    output: Path
    index: int
    num_shards: int


def _assemble(task: _Assembly) -> Part:
    from components.documents import ShardWriter, merge_documents, merge_dropped

    with ShardWriter(task.output, task.index) as writer:
        repeats = _Repeats()
        for document in repeats.first_of_each(merge_documents(task.kept, task.index, task.num_shards)):
            writer.keep(document)
        ledger = merge_dropped(task.dropped, task.index, task.num_shards)
        for row in heapq.merge(ledger, repeats.rows(), key=lambda row: (row.doc_id, row.url, row.rule)):
            writer.drop(row)
    return writer.part


class _Repeats:
    """What came more than once: how often, not the rows, so that a corpus that repeats itself does not fill memory."""

    def __init__(self) -> None:
        self._counts: list[tuple[bytes, str, int]] = []

    def first_of_each(self, documents: Iterable[Document]) -> Iterator[Document]:
        """One document of each id, out of documents in `doc_id` order, whatever the order among equal ids."""
        for _, group in groupby(documents, key=lambda document: document.doc_id):
            first, number = None, 0
            for one in group:
                first, number = one if first is None else min(first, one, key=_all_but_text), number + 1
            if first is not None:
                yield first
                self._counts += [(first.doc_id, first.url, number)] if number > 1 else []

    def rows(self) -> Iterator[Dropped]:
        """The ledger rows of all but the first, in order."""
        from components.documents import Dropped

        for doc_id, url, number in self._counts:
            for _ in range(number - 1):
                yield Dropped(doc_id, url, "repeated", str(number), "1")


def _all_but_text(document: Document) -> tuple[bool, str, str, str, str]:
    """What may differ between two documents of one id, for choosing the same one every time: an opt-out first."""
    return document.opt_out == "", document.title, document.lang, document.date, document.licence


def _nothing_kept(summary: Part, parts: Sequence[Part], config: IngestFilesConfig) -> StepError:
    read = summary["read"]
    names = sorted({name for part in parts for name in _names(part, "names")})
    field = config.fields.get("text", "text")
    seen = f" Rows have {', '.join(names)}, not {field}." if names and field not in names else ""
    return StepError(
        f"None of {read} rows became a document ({rules_told(summary) or 'the files are empty'}).{seen}",
        where="source.paths",
        fix="say where the text is: ingest_files.fields={text: content}"
        if seen
        else "look into dropped/, or at the files",
    )
