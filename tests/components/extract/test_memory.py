"""Ten times the pages take no more memory: the step runs in a child process, whose peak is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import sys
from pathlib import Path
from components.context import local_context
from components.extract.config import ExtractConfig
from components.extract.step import extract
from memory_help import peak_mb

folder = Path(sys.argv[1])
metrics = extract(local_context("extract", folder / "run"), ExtractConfig(shards=4, wave_pages=256), pages=folder)
print(int(metrics["kept"]), int(1024 * peak_mb()))
"""
_PAGES = 1500


def write_crawl(folder: Path, num_pages: int) -> None:
    (folder / "warc").mkdir(parents=True)
    links = "".join(f"<li><a href=/{n}.html>Page number {n}</a></li>" for n in range(60))
    with (folder / "warc" / "pages-00000.warc").open("wb") as file:
        for number in range(num_pages):
            story = f"House {number} of the lower street stood {number % 97} inches under water that night. " * 25
            html = f"<html><body><ul>{links}</ul><h1>House {number}</h1><p>{story}</p></body></html>"
            block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + html.encode()
            head = f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number:032d}>\r\n"
            head += f"WARC-Target-URI: http://example.org/{number}.html\r\nWARC-Date: 2024-03-05T00:00:00Z\r\n"
            head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
            file.write(head.encode() + block + b"\r\n\r\n")


def peak_kib(folder: Path, num_pages: int) -> int:
    write_crawl(folder, num_pages)
    done = subprocess.run([sys.executable, "-c", _CHILD, folder], capture_output=True, text=True, check=True)
    kept, peak = done.stdout.split("\n")[-2].split()
    assert int(kept) == num_pages
    return int(peak)


@pytest.mark.slow
def test_ten_times_the_pages_take_at_most_a_fifth_more_memory(tmp_path: Path) -> None:
    few = peak_kib(tmp_path / "few", _PAGES)
    many = peak_kib(tmp_path / "many", 10 * _PAGES)
    print(f"peak {few / 1024:.0f} MiB for {_PAGES} pages, {many / 1024:.0f} MiB for {10 * _PAGES}")
    assert many <= 1.2 * few
