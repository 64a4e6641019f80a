"""Crawls the seeds' sites into WARC files.

    warc/pages-00001.warc.gz ...   requests and responses, one gzip member a record
    frontier.sqlite                every URL heard of and what became of it
    summary.json                   URLs by state and reason

The crawl lives in `ctx.scratch` while it runs, so a killed or stopped one goes on there and asks for no page twice
(but for those on their way at that moment).
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from components.context import Context, Metrics
from components.crawl.config import CrawlConfig
from components.crawl.frontier import PAGE, SITEMAP, Found, Frontier
from components.errors import MachineError, Preempted, StepError
from components.publish import publish_json, read_json

VERSION = 1


def crawl(ctx: Context, config: CrawlConfig, site: Path | None = None) -> Metrics:
    """Crawls, from where an earlier try stopped if there was one.

    Args:
        ctx: Where to write and whom to tell.
        config: What to fetch and how gently.
        site: Artifact of the step `site`: it is served on loopback meanwhile, under the host name it was built for.

    Returns:
        fetched, redirected, refused_by_robots, failed (pages), bytes (of fetched bodies, inflated), pages_per_second.

    Raises:
        StepError: If a seed is no URL or no page at all could be fetched.
        Preempted: If the run was asked to stop; the next one goes on.
        MachineError: If the disk is full.
    """
    with _served(site) as mapped, full_database(ctx.scratch):
        frontier = Frontier(ctx.scratch / "crawl" / "frontier.sqlite")
        with closing(frontier):
            return _crawl(ctx, config, frontier, mapped)


def _crawl(ctx: Context, config: CrawlConfig, frontier: Frontier, mapped: Mapping[str, int]) -> Metrics:
    seeds = _seeds(config)
    frontier.add(Found(seed, depth=0) for seed in seeds)
    frontier.commit()
    before, started = frontier.number(PAGE, "fetched"), time.monotonic()
    if not asyncio.run(_run(ctx, config, frontier, mapped)):
        raise Preempted(
            f"The crawl was stopped after {frontier.number(PAGE, 'fetched')} pages.",
            where="crawl",
            fix="run again: it goes on from there",
        )
    seconds = time.monotonic() - started
    if frontier.number(PAGE, "fetched") == 0:
        raise _nothing_fetched(frontier, seeds)
    _write_output(ctx, config, frontier)
    return {
        "fetched": float(frontier.number(PAGE, "fetched")),
        "redirected": float(frontier.number(PAGE, "redirected")),
        "refused_by_robots": float(_refused_by_robots(frontier)),
        "failed": float(frontier.number(PAGE, "failed")),
        "bytes": float(frontier.body_bytes()),
        "pages_per_second": (frontier.number(PAGE, "fetched") - before) / max(seconds, 1e-9),
    }


async def _run(ctx: Context, config: CrawlConfig, frontier: Frontier, mapped: Mapping[str, int]) -> bool:
    from components.crawl.crawler import Crawler
    from components.crawl.fetch import Fetcher, Limits
    from components.crawl.warc import WarcWriter

    version = importlib.metadata.version("headwater")
    agent = f"{config.user_agent}/{version}" + (f" (+{config.contact})" if config.contact else "")
    limits = Limits(config.max_body_bytes, config.max_inflated_bytes, config.timeout_s)
    folder = ctx.scratch / "crawl" / "warc"
    about = {"software": f"headwater/{version}", "format": "WARC File Format 1.1", "http-header-user-agent": agent}
    writer = WarcWriter(folder, _sound_records(frontier, folder), config.warc_mib << 20, about)
    async with Fetcher(agent, limits, config.allow_loopback, mapped, config.concurrency) as fetcher:
        with closing(writer):
            crawler = Crawler(config, frontier, writer, fetcher, ctx.should_stop, lambda: _report(ctx, frontier))
            return await crawler.run()


def _seeds(config: CrawlConfig) -> list[str]:
    from components.crawl.urls import normalise

    seeds = []
    for url in config.seeds:
        seed = normalise(url)
        if seed is None:
            raise StepError(f"The seed {url!r} is not a URL that can be fetched.", "crawl.seeds", "correct crawl.seeds")
        seeds.append(seed)
    return seeds


def _sound_records(frontier: Frontier, folder: Path) -> dict[str, int]:
    """Where the committed records end, once those a power failure took from the files are forgotten."""
    for name, end in frontier.recorded().items():
        path = folder / name
        size = path.stat().st_size if path.exists() else 0
        if size < end:
            frontier.forget_records(name, size)
    return frontier.recorded()


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


def _report(ctx: Context, frontier: Frontier) -> None:
    kept, redirected, failed = (frontier.number(PAGE, state) for state in ("fetched", "redirected", "failed"))
    robots = _refused_by_robots(frontier)
    done = kept + redirected + failed + robots
    note = f"kept {kept}, refused by robots {robots}, failed {failed}"
    ctx.progress(done, done + frontier.number(PAGE, "pending", "active"), "pages", note)


def _refused_by_robots(frontier: Frontier) -> int:
    return sum(frontier.number(PAGE, "refused", reason=reason) for reason in ("robots", "robots unreachable"))


def _nothing_fetched(frontier: Frontier, seeds: list[str]) -> StepError:
    stories = "; ".join(frontier.story_of(seeds))
    return StepError(
        f"Not one page could be fetched from {len(seeds)} seed{'s' * (len(seeds) > 1)}. {stories}.",
        where="crawl.seeds",
        fix="check that the seeds answer in a browser, or set crawl.seeds to others (and crawl.hosts if they redirect)",
    )


def _place(path: Path, target: Path) -> None:
    """Links a WARC file (it will not change any more); copies it only where output and scratch are on two disks."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(path, target)


def _write_output(ctx: Context, config: CrawlConfig, frontier: Frontier) -> None:
    (ctx.output / "warc").mkdir(parents=True, exist_ok=True)
    for path in sorted((ctx.scratch / "crawl" / "warc").glob("*.warc.gz")):
        target = ctx.output / "warc" / path.name
        target.unlink(missing_ok=True)
        _place(path, target)
    (ctx.output / "frontier.sqlite").unlink(missing_ok=True)
    frontier.copy_to(ctx.output / "frontier.sqlite")
    publish_json(
        ctx.output / "summary.json",
        {
            "seeds": list(config.seeds),
            "pages": frontier.summary(PAGE),
            "sitemaps": frontier.summary(SITEMAP),
            "bytes": frontier.body_bytes(),
        },
    )
