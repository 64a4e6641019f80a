"""Crawls the seeds' sites into WARC files.

    warc/pages-00001.warc.gz ...   responses, requests, metadata and revisits, one gzip member a record
    frontier.sqlite                every URL heard of, what became of it and how it changed
    summary.json                   URLs by state and reason

The crawl lives in `ctx.scratch` while it runs, so a killed or stopped one goes on there and asks for no page twice
(but for those on their way at that moment). It runs in as many parts as there are workers (see `partition`): one in
this process, several in rounds of `ctx.map`, with what they found for each other handed over between rounds.

Given an earlier crawl (`previous`) it asks again for what is due, and takes over what has not changed (see `recrawl`):
the new artifact is whole by itself.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.crawl.config import CrawlConfig
from components.crawl.frontier import FEED, PAGE, SITEMAP, Frontier
from components.errors import MachineError, Preempted, StepError
from components.publish import publish_json, read_json
from components.shardwise import work_folder

if TYPE_CHECKING:
    from components.crawl.partition import Part, Progress

VERSION = 2

_FIRST_ROUND_S, _LONGEST_ROUND_S = 2.0, 20.0
_ROBOTS = ("robots", "robots unreachable", "robots ai")
_Counts = Counter[tuple[str, str, str]]


def crawl(ctx: Context, config: CrawlConfig, site: Path | None = None, previous: Path | None = None) -> Metrics:
    """Crawls, from where an earlier try stopped if there was one.

    Args:
        ctx: Where to write and whom to tell.
        config: What to fetch and how gently.
        site: Artifact of the step `site`: it is served on loopback meanwhile, under the host name it was built for. It
            is crawled by one worker, since no other machine could reach it.
        previous: Artifact of an earlier crawl, to be brought up to date.

    Returns:
        fetched, redirected, refused_by_robots, opted_out, failed (pages), bytes (of fetched bodies, inflated),
        pages_per_second; of `fetched`, with an earlier crawl: not_modified (status 304), same_body, not_due, stale,
        changed; gone (pages that were there once).

    Raises:
        StepError: If a seed is no URL, the earlier crawl cannot be read, or no page at all could be fetched.
        ConfigError: If a scope rule or the opt-out list cannot be read.
        Preempted: If the run was asked to stop; the next one goes on.
        MachineError: If the disk is full.
    """
    from components.crawl.partition import Part
    from components.crawl.recrawl import History
    from components.crawl.scope import Scope

    seeds = _seeds(config)
    Scope(config)  # Refuses rules that are none before anything is asked for.
    if previous is not None:
        with History(previous):  # So with an earlier crawl that is none.
            pass
    lists = [Path(config.opt_out_file)] if config.opt_out_file else []
    folder = work_folder(ctx, VERSION, config, [*lists, *([previous / "frontier.sqlite"] if previous else [])])
    count = _number_of_parts(folder, 1 if site else config.workers)
    with _served(site) as mapped, full_database(ctx.scratch):
        parts = [Part(config, folder, index, count, mapped, previous) for index in range(count)]
        started = time.monotonic()
        fetched, counts = _crawl_alone(ctx, parts[0]) if count == 1 else _crawl_together(ctx, config, parts)
        seconds = time.monotonic() - started
        if not _number(counts, PAGE, "fetched"):
            error = _nothing_fetched(parts, seeds)
            shutil.rmtree(folder)  # Nothing is lost, and the next try shall ask anew.
            raise error
        metrics = _write_output(ctx, config, parts)
    return {**metrics, "pages_per_second": fetched / max(seconds, 1e-9)}


def _crawl_alone(ctx: Context, part: Part) -> tuple[int, _Counts]:
    """Crawls the only part in this process; returns the pages fetched now, and all counts."""
    from components.crawl.crawler import STOPPED
    from components.crawl.partition import run_part

    before: list[int] = []

    def report(frontier: Frontier) -> None:
        before.append(_number(frontier.counts, PAGE, "fetched"))
        del before[1:]
        _report(ctx, frontier.counts)

    progress = run_part(replace(part, max_pages=part.config.max_pages), ctx.should_stop, report)
    pages = _number(progress.counts, PAGE, "fetched")
    if progress.ending == STOPPED:
        raise Preempted(
            f"The crawl was stopped after {pages} pages.", where="crawl", fix="run again: it goes on from there"
        )
    return pages - before[0], progress.counts


def _crawl_together(ctx: Context, config: CrawlConfig, parts: Sequence[Part]) -> tuple[int, _Counts]:
    """Crawls all parts, round by round; returns the pages fetched now, and all counts."""
    from components.crawl.partition import crawl_part

    had = [_pages_in(part) for part in parts]
    begun = sum(had)
    seconds, open_parts = _FIRST_ROUND_S, list(range(len(parts)))
    while True:
        shares = _shares(config.max_pages - sum(had), open_parts, len(parts))
        work = [
            replace(part, seconds=seconds, max_pages=have + share)
            for part, have, share in zip(parts, had, shares, strict=True)
        ]
        results: list[Progress] = ctx.map(crawl_part, work)
        counts = sum((result.counts for result in results), start=Counter[tuple[str, str, str]]())
        _report(ctx, counts)
        had = [_number(result.counts, PAGE, "fetched") for result in results]
        open_parts = [index for index, result in enumerate(results) if result.more]
        letters = sum(result.letters for result in results)
        if sum(had) >= config.max_pages or not (open_parts or letters):
            return sum(had) - begun, counts
        seconds = min(seconds * 1.5, _LONGEST_ROUND_S)


def _shares(pages: int, open_parts: Sequence[int], count: int) -> list[int]:
    """How many more pages each part may fetch: the rest in equal shares among those that have something to fetch."""
    takers = list(open_parts) or list(range(count))
    shares = [0] * count
    for place, index in enumerate(takers):
        shares[index] = pages // len(takers) + (place < pages % len(takers))
    return shares


def _pages_in(part: Part) -> int:
    """Pages a part has from an earlier try."""
    if not part.frontier.exists():
        return 0
    with closing(Frontier(part.frontier)) as frontier:
        return _number(frontier.counts, PAGE, "fetched")


def _number_of_parts(folder: Path, wanted: int) -> int:
    """The parts that the crawl was begun with: what they hold cannot be shared out again."""
    path = folder / "parts.json"
    if not path.exists():
        publish_json(path, {"parts": wanted})
    return int(str(read_json(path)["parts"]))


def _seeds(config: CrawlConfig) -> list[str]:
    from components.crawl.urls import normalise

    seeds = []
    for url in config.seeds:
        seed = normalise(url)
        if seed is None:
            raise StepError(f"The seed {url!r} is not a URL that can be fetched.", "crawl.seeds", "correct crawl.seeds")
        seeds.append(seed)
    return seeds


@contextmanager
def _served(site: Path | None) -> Iterator[Mapping[str, int]]:
    """Serves the sample site, if there is one; yields which port stands for which host."""
    if site is None:
        yield {}
        return
    from components.sample.server import serve

    with serve(site) as port:
        yield {str(read_json(site / "summary.json")["host"]): port}


@contextmanager
def full_database(folder: Path) -> Iterator[None]:
    """Turns SQLite's own word for a full disk into ours (an `OSError` that says so is understood everywhere)."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "disk is full" not in str(error):
            raise
        raise MachineError(
            "The disk is full.", where=str(folder), fix="free some space and run again: the crawl goes on"
        ) from error


def _report(ctx: Context, counts: _Counts) -> None:
    kept, redirected, failed = (_number(counts, PAGE, state) for state in ("fetched", "redirected", "failed"))
    robots = _number(counts, PAGE, "refused", *_ROBOTS)
    done = kept + redirected + failed + robots
    note = f"kept {kept}, refused by robots {robots}, failed {failed}"
    waiting = _number(counts, PAGE, "pending") + _number(counts, PAGE, "active")
    ctx.progress(done, done + waiting, "pages", note)


def _number(counts: _Counts, kind: str, state: str, *reasons: str) -> int:
    """How many URLs of a kind are in a state, for some reasons if any are given."""
    wanted = {key: number for key, number in counts.items() if key[:2] == (kind, state)}
    return sum(number for (_, _, why), number in wanted.items() if not reasons or why in reasons)


def _nothing_fetched(parts: Sequence[Part], seeds: list[str]) -> StepError:
    found: list[str] = []
    for part in parts:
        with closing(Frontier(part.frontier)) as frontier:
            found += frontier.story_of(seeds)
    stories = "; ".join(found)
    return StepError(
        f"Not one page could be fetched from {len(seeds)} seed{'s' * (len(seeds) > 1)}. {stories}.",
        where="crawl.seeds",
        fix="check that the seeds answer in a browser, or set crawl.seeds to others (and crawl.hosts if they redirect)",
    )


def _place(path: Path, target: Path) -> None:
    """Links a WARC file (it will not change any more); copies it only where output and scratch are on two disks."""
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(path, target)


def _write_output(ctx: Context, config: CrawlConfig, parts: Sequence[Part]) -> Metrics:
    """Ends what is still pending, puts the parts together and returns their metrics."""
    from components.crawl.merging import count_ends, merge_frontiers

    (ctx.output / "warc").mkdir(parents=True, exist_ok=True)
    for part in parts:
        with closing(Frontier(part.frontier)) as frontier:
            frontier.refuse_rest("depth", deeper_than=config.max_depth)
            frontier.refuse_rest("page cap")
        for path in sorted(part.warc.glob("*.warc.gz")):
            _place(path, ctx.output / "warc" / path.name)
    merge_frontiers([part.frontier for part in parts], ctx.output / "frontier.sqlite")
    ends = count_ends(ctx.output / "frontier.sqlite")
    publish_json(
        ctx.output / "summary.json",
        {
            "seeds": list(config.seeds),
            "pages": ends.summary(PAGE),
            "sitemaps": ends.summary(SITEMAP),
            "feeds": ends.summary(FEED),
            "bytes": ends.body_bytes,
            "changed": ends.changed,
            "gone": ends.gone,
        },
    )
    return _metrics(ends.counts, ends.body_bytes, ends.changed, ends.gone)


def _metrics(counts: _Counts, body_bytes: int, changed: int, gone: int) -> Metrics:
    def pages(state: str, *reasons: str) -> float:
        return float(_number(counts, PAGE, state, *reasons))

    return {
        "fetched": pages("fetched"),
        "redirected": pages("redirected"),
        "refused_by_robots": pages("refused", *_ROBOTS),
        "opted_out": pages("refused", "opt-out"),
        "failed": pages("failed"),
        "not_modified": pages("fetched", "not modified"),
        "same_body": pages("fetched", "same body"),
        "not_due": pages("fetched", "not due"),
        "stale": pages("fetched", "stale"),
        "changed": float(changed),
        "gone": float(gone),
        "bytes": float(body_bytes),
    }
