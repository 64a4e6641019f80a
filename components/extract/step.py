"""Takes crawled pages apart into documents: text, title and language of every HTML page that has any.

    documents/, dropped/, summary.json     see components.documents

Pages are read in the order of the WARC files, in waves; a wave's documents are kept in `ctx.scratch`, so that a stopped
step goes on behind the last full wave. A page's document depends on that page alone and its shard on its id, so
neither the order of the pages nor the number of workers shows in the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.extract.config import ExtractConfig
from components.publish import publish_json, read_json
from components.shardwise import Part, map_in_waves, metrics_of, rules_told, work_folder

if TYPE_CHECKING:
    from components.crawl.warc import Page
    from components.documents import Document, Outcome

VERSION = 1

_GROUP_PAGES = 32


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
    tasks = [_Assembly(waves, ctx.output, index, config.shards) for index in range(config.shards)]
    summary = write_summary(ctx.output, map_in_waves(ctx, _assemble, tasks, len(tasks), "shards"))
    if not summary["kept"]:
        raise _nothing_kept(summary)
    return metrics_of(summary)


def _extract_waves(ctx: Context, config: ExtractConfig, folder: Path) -> list[Path]:
    """Extracts all pages, wave by wave, behind what an earlier attempt has done; returns the waves' folders."""
    from components.crawl.warc import read_pages

    work = work_folder(ctx, VERSION, config, sorted(folder.glob("*.warc*")))
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
    from components.documents import Outcome, write_shard
    from components.extract.pages import PageGroup, extract_group

    groups = [PageGroup(config, pages[i : i + _GROUP_PAGES]) for i in range(0, len(pages), _GROUP_PAGES)]
    outcomes = ctx.map(extract_group, groups)
    whole = Outcome([d for o in outcomes for d in o.kept], [d for o in outcomes for d in o.dropped])
    publish_json(folder / "part.json", write_shard(folder, 0, whole))
    return len(whole.kept)


@dataclass(frozen=True)
class _Assembly:
    """One shard to be put together from the waves."""

    waves: list[Path]
    output: Path
    index: int
    num_shards: int


def _assemble(task: _Assembly) -> Part:
    from components.documents import Outcome, read_rows, write_shard

    whole = Outcome()
    for wave in task.waves:
        rows = read_rows(wave, task.index, task.num_shards)
        whole.kept += rows.kept
        whole.dropped += rows.dropped
    return write_shard(task.output, task.index, without_repeats(whole))


def without_repeats(outcome: Outcome) -> Outcome:
    """Keeps one document of each id: a page recorded twice (same URL, same bytes) is one page."""
    from components.documents import Dropped, Outcome

    first: dict[bytes, Document] = {}
    repeats: list[Dropped] = []
    for document in sorted(outcome.kept, key=lambda document: (document.doc_id, document.title, document.text)):
        if first.setdefault(document.doc_id, document) is not document:
            repeats.append(Dropped(document.doc_id, document.url, "repeated_page", "2 or more", "1"))
    return Outcome(list(first.values()), outcome.dropped + repeats)


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
