"""Settings of the crawler."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from components.configuring import added, require, runtime

_POSITIVE = "max_pages max_body_bytes max_inflated_bytes concurrency host_concurrency warc_mib workers"
_NOT_NEGATIVE = "max_pages_per_host max_depth delay_s max_redirects retries backoff_s max_retry_after_s max_inflation"
_LEAST = [
    *((name, 1, "must be at least 1") for name in _POSITIVE.split()),
    *((name, 0, "must not be negative") for name in _NOT_NEGATIVE.split()),
    ("max_url_chars", 20, "must be at least 20"),
]


@dataclass(frozen=True)
class RecrawlConfig:
    """How soon a page is asked for again by a crawl that is given an earlier one.

    Attributes:
        first_h: Hours from the first visit to the second; 0 asks for every page every time.
        min_h: Least number of hours between two visits: what a page that always changes comes down to, halving.
        max_h: Most hours between two visits: what a page that never changes comes up to, doubling.
    """

    first_h: float = 24.0
    min_h: float = 1.0
    max_h: float = 2160.0

    def __post_init__(self) -> None:
        require(
            self.first_h >= 0, "crawl.recrawl.first_h", self.first_h, "must not be negative", "crawl.recrawl.first_h=24"
        )
        require(self.min_h >= 0, "crawl.recrawl.min_h", self.min_h, "must not be negative", "crawl.recrawl.min_h=1")
        require(
            self.max_h >= self.min_h,
            "crawl.recrawl.max_h",
            self.max_h,
            f"must be at least crawl.recrawl.min_h={self.min_h:g}",
            "crawl.recrawl.max_h=2160",
        )


@dataclass(frozen=True)
class CrawlConfig:
    """What to fetch, and how gently.

    The defaults suit the open web; only the seeds point at the sample site. A host with a gap is visited by one request
    at a time, and the gap counts from the end of its last answer.

    Attributes:
        seeds: URLs to start from. Their hosts are in scope.
        hosts: Further hosts in scope ("docs.example.org", "example.org:8080").
        host_suffixes: Domains in scope with all that is below them ("example.org" takes in "docs.example.org").
        include: Where there are any, only pages below one of these are fetched: paths ("/docs/") that hold for every
            host, or URLs ("https://example.org/docs/"). Sitemaps and feeds need not be below them.
        exclude: Nothing below these is fetched; written as `include`, and stronger.
        opt_out: Hosts ("example.org", with all below them) and URLs whose owners want no part in this: never asked for
            anything, and not taken over from an earlier crawl either. Stronger than every other rule.
        opt_out_file: A file of more of them, one a line; "#" begins a remark.
        opt_out_digest: SHA-256 of that file (what a recipe sets so that another list makes another crawl); refused if
            the file has another one.
        priorities: What is fetched first on its host: path or URL as in `include` -> whole number, the greater the
            sooner; the longest that fits counts. Links have 50, a sitemap's pages 0 to 100 as it ranks them.
        max_pages: Stop after so many fetched pages. Which ones they are then depends on how fast hosts answer.
        max_pages_per_host: Fetched pages of one host at most; 0 for no limit of its own.
        max_depth: Follow links so far from a seed (sitemap entries count as one away).
        delay_s: Least gap between two requests to a host; robots.txt may ask for more.
        sitemaps: Read the sitemaps that robots.txt names.
        feeds: RSS, Atom or JSON feeds to read for links; their hosts are in scope.
        find_feeds: Read the feeds that pages name (`<link rel=alternate>`) too.
        ai_rules: Obey what robots.txt says of use by AI: Content-Signal, Content-Usage and DisallowAITraining
            lines that refuse training, and rules for `ai_agents` where none names `user_agent`.
        ai_agents: Names under which site owners refuse collections for training.
        content_types: Media types kept; the body of any other is not read.
        max_body_bytes: Longest body as transferred.
        max_inflated_bytes: Longest body after decompression.
        max_inflation: Most bytes that a byte as transferred may become, for bodies above a mebibyte; 0 for no limit.
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
        workers: Parts that the hosts are shared out to, crawled at the same time where there is room. The pages are the
            same for any number; a crawl that was begun goes on with the number it began with.
        recrawl: When to ask again for the pages of an earlier crawl.
    """

    seeds: tuple[str, ...] = ("http://sample.headwater.test/",)
    hosts: tuple[str, ...] = ()
    host_suffixes: tuple[str, ...] = added(())
    include: tuple[str, ...] = added(())
    exclude: tuple[str, ...] = added(())
    opt_out: tuple[str, ...] = added(())
    opt_out_file: str = runtime("")
    opt_out_digest: str = added("")
    priorities: dict[str, str] = field(default_factory=dict)
    max_pages: int = 10_000
    max_pages_per_host: int = added(0)
    max_depth: int = 50
    delay_s: float = runtime(1.0)
    sitemaps: bool = True
    feeds: tuple[str, ...] = added(())
    find_feeds: bool = added(True, keeps=False)
    ai_rules: bool = added(True, keeps=False)
    ai_agents: tuple[str, ...] = added(("CCBot", "GPTBot", "Google-Extended", "ClaudeBot"))
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml")
    max_body_bytes: int = 10_000_000
    max_inflated_bytes: int = 50_000_000
    max_inflation: float = added(200.0, keeps=0.0)
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
    workers: int = runtime(1)
    recrawl: RecrawlConfig = RecrawlConfig()

    def __post_init__(self) -> None:
        require(bool(self.seeds), "crawl.seeds", list(self.seeds), "names no URL", "crawl.seeds=[https://example.org/]")
        for name in ("seeds", "feeds"):
            for url in getattr(self, name):
                known = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).netloc)
                fix = f"crawl.{name}=[https://example.org/]"
                require(known, f"crawl.{name}", url, "is not an http or https URL", fix)
        for name in ("hosts", "host_suffixes"):
            for host in getattr(self, name):
                plain = "/" not in host and bool(host.strip("."))
                fix = f"crawl.{name}=[example.org]"
                require(plain, f"crawl.{name}", host, "must be a host name without scheme or path", fix)
        for name in ("include", "exclude", "priorities"):
            for prefix in getattr(self, name):
                fix = f"a path such as /docs/ or a URL in crawl.{name}"
                known = prefix.startswith(("/", "http://", "https://"))
                require(known, f"crawl.{name}", prefix, "must begin with / or http:// or https://", fix)
        for prefix, number in self.priorities.items():
            whole = number.removeprefix("-").isdecimal() and abs(int(number)) <= 1000
            key = f"crawl.priorities.{prefix}"
            require(whole, key, number, "must be a whole number from -1000 to 1000", f"{key}=60")
        for name, least, word in _LEAST:
            value = getattr(self, name)
            require(value >= least, f"crawl.{name}", value, word, f"crawl.{name}={max(least, 1)}")
        require(self.timeout_s > 0, "crawl.timeout_s", self.timeout_s, "must be above 0", "crawl.timeout_s=30")
        for name in (self.user_agent, *self.ai_agents):
            token = name.replace("-", "").replace("_", "")
            key = "crawl.user_agent" if name is self.user_agent else "crawl.ai_agents"
            require(token.isascii() and token.isalpha(), key, name, "must be one word of letters", f"{key}=Headwater")
        one_line = self.contact.isprintable()
        fix = "crawl.contact=crawler@example.org"
        require(one_line, "crawl.contact", repr(self.contact), "must be one line", fix)
