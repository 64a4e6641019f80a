"""Pages a second and core of our crawler beside Scrapy's, over the same 500 link-heavy pages on loopback.

A page has about 100 KB and a thousand links, most of them known already and some outside. Ours reads robots.txt, keeps
its frontier on disk and writes WARC files; Scrapy reads robots.txt, keeps its frontier in memory and writes nothing; it
is stopped after 150 pages, for it takes its time. The server has a process of its own; what counts is the CPU time of
the crawler's process, from the first request to the last, without imports. Rounds are interleaved and the best of each
is taken. Nothing passes or fails by the clock; run with `make bench`. HEADWATER_BENCH_ROUNDS sets the number of rounds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peer_help import environment_of

BENCH = Path(__file__).parent
ROOT = BENCH.parent.parent
ROUNDS = int(os.environ.get("HEADWATER_BENCH_ROUNDS", "3"))
NUM_PAGES, PAGE_BYTES = 500, 100_000
GOAL = 60.0
_PLAIN = "the a of to and in it was on for river street night water house town bread mill gate wall stone baker"
WORDS = _PLAIN.split()


def make_page(number: int) -> bytes:
    draw = random.Random(number)
    menu = "".join(
        f'<li><a href="/p/{n}.html" title="page {n}">Page {n} of this site</a></li>\n' for n in range(NUM_PAGES)
    )
    parts = [f"<!DOCTYPE html><html><head><meta charset=utf-8><title>{number}</title></head><body><ul>{menu}</ul>"]
    size = len(parts[0])
    while size < PAGE_BYTES:
        other, outside = draw.randrange(NUM_PAGES), f"https://other{draw.randrange(50)}.example/x{draw.randrange(1000)}"
        links = f'<a href="../p/{other}.html#s{draw.randrange(9)}">see</a> <a href="./{other}.html">again</a>'
        parts.append(f'<p>{" ".join(draw.choices(WORDS, k=40))} {links} <a href="{outside}">out</a></p>\n')
        size += len(parts[-1])
    return "".join(parts).encode() + b"</body></html>"


def make_site(folder: Path) -> None:
    (folder / "p").mkdir(parents=True)
    for number in range(NUM_PAGES):
        (folder / "p" / f"{number}.html").write_bytes(make_page(number))
    (folder / "index.html").write_bytes(make_page(0))
    (folder / "robots.txt").write_text("User-agent: *\nDisallow: /private/\n")


@contextmanager
def served(folder: Path, port_file: Path) -> Iterator[str]:
    """The folder's URL, served by a process of its own."""
    process = subprocess.Popen([sys.executable, ROOT / "tests/support/site_server.py", folder, port_file])
    try:
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text()}/"
    finally:
        process.kill()
        process.wait()


def rate(command: list[str | Path]) -> float:
    """Pages a CPU second of a crawl that prints both."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _, pages, seconds = next(line for line in done.stdout.splitlines() if line.startswith("took ")).split()
    assert int(pages) >= 150
    return int(pages) / float(seconds)


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_pages_a_second_beside_scrapy(tmp_path: Path) -> None:
    python = environment_of("scrapy") / "bin" / "python"
    make_site(tmp_path / "site")
    ours, scrapy = list[float](), list[float]()
    with served(tmp_path / "site", tmp_path / "port") as url:
        for number in range(ROUNDS):
            ours.append(rate([sys.executable, BENCH / "peers/our_crawl.py", url, tmp_path / f"crawl-{number}"]))
            scrapy.append(rate([python, BENCH / "peers/scrapy_spider.py", url]))
            print(f"ours {ours[-1]:.1f}, Scrapy {scrapy[-1]:.1f} pages/s, load {os.getloadavg()[0]:.1f}", flush=True)
    print(
        f"\npages a CPU second, best of {ROUNDS}: ours {max(ours):.1f} (goal {GOAL:.0f}), Scrapy {max(scrapy):.1f}; ",
        end="",
    )
    print(f"ratio {max(ours) / max(scrapy):.1f}")
