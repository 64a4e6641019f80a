"""Follows every link of one site with our crawler: `python our_crawl.py URL FOLDER`; prints pages and CPU."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx  # noqa: F401  (what a process loads once does not count, on either side)
import protego  # noqa: F401
import selectolax.lexbor  # noqa: F401

from components.context import local_context
from components.crawl import crawler, fetch, partition, scope, visits  # noqa: F401
from components.crawl.config import CrawlConfig
from components.crawl.step import crawl

config = CrawlConfig(seeds=(sys.argv[1],), allow_loopback=True, delay_s=0.0, concurrency=16, host_concurrency=8)
context = local_context("crawl", Path(sys.argv[2]))
began = time.process_time()
metrics = crawl(context, config)
print(f"took {metrics['fetched']:.0f} {time.process_time() - began}")
