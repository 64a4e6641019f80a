"""Takes crawled pages apart into documents: text, title, language, date, licence and links of every page that has text.

    documents/, dropped/, summary.json     see components.documents
    links/                                 see components.extract.links; absent with `links=false`

Pages are read in the order of the WARC files, in waves; a wave's documents are kept in `ctx.scratch`, so that a stopped
step goes on behind the last full wave. A page's document depends on that page alone and its shard on its id, so
neither the order of the pages nor the number of workers shows in the result.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.extract.config import ExtractConfig
from components.publish import publish_json, read_json
from components.shardwise import Part, map_in_waves, metrics_of, rules_told, work_folder

if TYPE_CHECKING:
    from components.crawl.warc_read import Page
    from components.documents import Document, Dropped

VERSION = 2

_GROUP_PAGES = 32
_LINKS = "links.arrow"


def extract(ctx: Context, config: ExtractConfig, pages: Path) -> Metrics:
    """Extracts the pages of a crawl.

    Args:
        ctx: The step's context.
        config: Settings.
        pages: A crawl artifact, with its WARC files in `warc/`.

    Returns:
        read, kept, dropped (pages), chars (of text), share_<language> for the three most frequent languages.

    Raises:
        StepError: If the crawl holds no page, or none of its pages has text.
    """
    from components.documents import write_summary

    waves = _extract_waves(ctx, config, pages / "warc")
    sorted_files = _condensed(ctx, waves)
    tasks = [_Assembly(*sorted_files, ctx.output, index, config) for index in range(config.shards)]
    summary = write_summary(ctx.output, map_in_waves(ctx, _assemble, tasks, len(tasks), "shards"))
    if not summary["kept"]:
        raise _nothing_kept(summary)
    return metrics_of(summary)


def _extract_waves(ctx: Context, config: ExtractConfig, folder: Path) -> list[Path]:
    """Extracts all pages, wave by wave, behind what an earlier attempt has done; returns the waves' folders."""
    from components.crawl.warc_read import read_pages, warc_files

    work = work_folder(ctx, VERSION, config, warc_files(folder))
    waves, done, kept = _finished_waves(work)
    pages = islice(read_pages(folder), done, None)
    while wave := list(islice(pages, config.wave_pages)):
        waves.append(work / f"{done:012d}")
        kept += _extract_wave(ctx, config, wave, waves[-1])
        done += len(wave)
        ctx.progress(done, None, "pages", f"kept {kept}, dropped {done - kept}")
    return waves


def _finished_waves(folder: Path) -> tuple[list[Path], int, int]:
    """Waves that are whole, in order, and how many pages they took and documents they gave."""
    waves: list[Path] = []
    done = kept = 0
    while (part := folder / f"{done:012d}" / "part.json").exists():
        counts = read_json(part)
        waves.append(part.parent)
        done += int(str(counts["read"]))
        kept += int(str(counts["kept"]))
    return waves, done, kept


def _extract_wave(ctx: Context, config: ExtractConfig, pages: list[Page], folder: Path) -> int:
    from components.documents import RUN_BATCH_CHARS, Outcome, write_shard
    from components.extract.links import write_links
    from components.extract.pages import PageGroup, extract_group

    groups = [PageGroup(config, pages[i : i + _GROUP_PAGES]) for i in range(0, len(pages), _GROUP_PAGES)]
    results = ctx.map(extract_group, groups)
    outcomes = [result.outcome for result in results]
    whole = Outcome([d for o in outcomes for d in o.kept], [d for o in outcomes for d in o.dropped])
    write_links(folder / _LINKS, sorted(page for result in results for page in result.links), grouped=True)
    publish_json(folder / "part.json", write_shard(folder, 0, whole, RUN_BATCH_CHARS))
    return len(whole.kept)


def _condensed(ctx: Context, waves: Sequence[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """The waves' documents, ledgers and links, merged until they are few enough to be read side by side."""
    from components.documents import DOCUMENTS, DROPPED, condense, dropped_paths, shard_paths
    from components.extract.links import condense_links

    kept = [path for wave in waves for path in shard_paths(wave)]
    dropped = [path for wave in waves for path in dropped_paths(wave)]
    links = [wave / _LINKS for wave in waves]
    place = ctx.scratch / "merged" / waves[-1].parent.name if waves else ctx.scratch
    return (
        condense(kept, place / "documents", DOCUMENTS),
        condense(dropped, place / "dropped", DROPPED),
        condense_links(links, place / "links"),
    )


@dataclass(frozen=True)
class _Assembly:
    """One shard to be put together from sorted files."""

    kept: list[Path]
    dropped: list[Path]
    links: list[Path]
    output: Path
    index: int
    config: ExtractConfig


def _assemble(task: _Assembly) -> Part:
    from components.documents import ShardWriter, merge_documents, merge_dropped
    from components.extract.links import merge_links, write_links

    num_shards = task.config.shards
    repeats: list[Dropped] = []
    with ShardWriter(task.output, task.index) as writer:
        for document in first_of_each(merge_documents(task.kept, task.index, num_shards), repeats):
            writer.keep(document)
        ledger = merge_dropped(task.dropped, task.index, num_shards)
        for row in heapq.merge(ledger, repeats, key=lambda row: (row.doc_id, row.url, row.rule)):
            writer.drop(row)
    if task.config.links:
        path = task.output / "links" / f"shard-{task.index:05d}.arrow"
        write_links(path, merge_links(task.links, task.index, num_shards))
    return writer.part


def first_of_each(documents: Iterable[Document], repeats: list[Dropped]) -> Iterator[Document]:
    """One document of each id, out of documents in `doc_id` order: a page recorded twice is one page.

    The others go to `repeats`, as rows for the ledger.
    """
    from components.documents import Dropped

    for _, group in groupby(documents, key=lambda document: document.doc_id):
        first, *others = sorted(group, key=lambda document: (document.title, document.text))
        yield first
        repeats += [Dropped(one.doc_id, one.url, "repeated_page", "2 or more", "1") for one in others]


def _nothing_kept(summary: Part) -> StepError:
    read = summary["read"]
    if not read:
        return StepError(
            "extract found no page in the crawl.",
            where="the crawl's warc/ folder",
            fix="check crawl.seeds and the sites' robots.txt, then run again",
        )
    return StepError(
        f"extract kept 0 of {read} pages ({rules_told(summary)}).",
        where="the crawl's pages",
        fix="look at the pages in the crawl's warc/ folder; choose sources that serve HTML with text",
    )
