"""Runs the step alone: `python -m components.crawl "seeds=[https://example.org/]"`."""

from components.crawl.config import CrawlConfig
from components.crawl.step import crawl
from components.standalone import main

main(crawl, CrawlConfig)
