"""Follows every link of a site with Scrapy, obeying robots.txt: `python scrapy_spider.py URL`; prints pages and CPU."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from scrapy.linkextractors import LinkExtractor

ENOUGH = 150
pages = 0


class Everything(scrapy.Spider):
    """Every page of the site."""

    name = "everything"
    start_urls = (sys.argv[1],)
    allowed_domains = ("127.0.0.1",)
    links = LinkExtractor()

    def parse(self, response: Response) -> Iterator[scrapy.Request]:
        global pages
        if pages >= ENOUGH:
            raise CloseSpider("enough")
        pages += 1
        for link in self.links.extract_links(response):
            yield scrapy.Request(link.url)


process = CrawlerProcess(
    {
        "ROBOTSTXT_OBEY": True,
        "CONCURRENT_REQUESTS": 16,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
        "DOWNLOAD_DELAY": 0,
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
    }
)
process.crawl(Everything)
began = time.process_time()
process.start()
print(f"took {pages} {time.process_time() - began}")
