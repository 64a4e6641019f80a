"""Settings of the crawler."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from components.configuring import require, runtime


@dataclass(frozen=True)
class CrawlConfig:
    """What to fetch, and how gently.

    The defaults suit the open web; only the seeds point at the sample site. A host with a gap is visited by one request
    at a time, and the gap counts from the end of its last answer.

    Attributes:
        seeds: URLs to start from. Their hosts are in scope.
        hosts: Further hosts in scope ("docs.example.org", "example.org:8080").
        max_pages: Stop after so many fetched pages.
        max_depth: Follow links so far from a seed (sitemap entries count as one away).
        delay_s: Least gap between two requests to a host; robots.txt may ask for more.
        sitemaps: Read the sitemaps that robots.txt names.
        content_types: Media types kept; the body of any other is not read.
        max_body_bytes: Longest body as transferred.
        max_inflated_bytes: Longest body after decompression.
        max_url_chars: Longer URLs are refused.
        max_redirects: Longest chain of redirects.
        timeout_s: Longest time for one request, from connecting to the last byte.
        retries: Further attempts after a broken connection, a timeout, or status 429 or 5xx.
        backoff_s: Wait before the first retry; doubles each time. A Retry-After header overrides it.
        max_retry_after_s: A host that asks for a longer wait is given up for this page.
        allow_loopback: Permit addresses of this machine. Every other address that is not public is always refused.
        user_agent: Product name, matched against robots.txt.
        contact: URL or e-mail shown in the User-Agent header, so that a site's owner can complain.
        concurrency: Requests in flight at once.
        host_concurrency: Requests in flight at once to one host that has no gap.
        warc_mib: Size at which the next WARC file begins.
    """

    seeds: tuple[str, ...] = ("http://sample.headwater.test/",)
    hosts: tuple[str, ...] = ()
    max_pages: int = 10_000
    max_depth: int = 50
    delay_s: float = runtime(1.0)
    sitemaps: bool = True
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml")
    max_body_bytes: int = 10_000_000
    max_inflated_bytes: int = 50_000_000
    max_url_chars: int = 2000
    max_redirects: int = 5
    timeout_s: float = 30.0
    retries: int = 2
    backoff_s: float = runtime(1.0)
    max_retry_after_s: float = 120.0
    allow_loopback: bool = False
    user_agent: str = "Headwater"
    contact: str = runtime("")
    concurrency: int = runtime(16)
    host_concurrency: int = runtime(8)
    warc_mib: int = runtime(256)

    def __post_init__(self) -> None:
        require(bool(self.seeds), "crawl.seeds", list(self.seeds), "names no URL", "crawl.seeds=[https://example.org/]")
        for seed in self.seeds:
            known = urlsplit(seed).scheme in ("http", "https") and bool(urlsplit(seed).netloc)
            require(known, "crawl.seeds", seed, "is not an http or https URL", "crawl.seeds=[https://example.org/]")
        for host in self.hosts:
            plain = "/" not in host and bool(host)
            require(
                plain, "crawl.hosts", host, "must be a host name without scheme or path", "crawl.hosts=[example.org]"
            )
        for name in (
            "max_pages",
            "max_body_bytes",
            "max_inflated_bytes",
            "concurrency",
            "host_concurrency",
            "warc_mib",
        ):
            require(
                getattr(self, name) >= 1,
                f"crawl.{name}",
                getattr(self, name),
                "must be at least 1",
                f"crawl.{name}=100",
            )
        for name in ("max_depth", "delay_s", "max_redirects", "retries", "backoff_s", "max_retry_after_s"):
            require(
                getattr(self, name) >= 0,
                f"crawl.{name}",
                getattr(self, name),
                "must not be negative",
                f"crawl.{name}=1",
            )
        require(self.timeout_s > 0, "crawl.timeout_s", self.timeout_s, "must be above 0", "crawl.timeout_s=30")
        require(
            self.max_url_chars >= 20,
            "crawl.max_url_chars",
            self.max_url_chars,
            "must be at least 20",
            "crawl.max_url_chars=2000",
        )
        token = self.user_agent.replace("-", "").replace("_", "")
        require(
            token.isascii() and token.isalpha(),
            "crawl.user_agent",
            self.user_agent,
            "must be one word of letters",
            "crawl.user_agent=Headwater",
        )
        require(
            self.contact.isprintable(),
            "crawl.contact",
            repr(self.contact),
            "must be one line",
            "crawl.contact=crawler@example.org",
        )
