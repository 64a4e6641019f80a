"""Which URLs a crawl may ask for, and which first: hosts, domains, paths, the opt-out list, priorities.

A rule that names a path ("/docs/") holds on every host, one that names a URL on that host alone, whether by http or
https. Both stand for what lies below: "/docs" covers "/docs", "/docs/a" and "/docs?page=2", not "/docstrings".

The opt-out list names hosts (with all below them) or URLs whose owners want no part in this. It comes before everything
else: before seeds, before robots.txt, before what an earlier crawl brought home.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.crawl.config import CrawlConfig
from components.crawl.frontier import LINK_PRIORITY, PAGE
from components.crawl.urls import host_of, looks_like_page, normalise
from components.errors import ConfigError
from components.opt_outs import OptOuts, is_below, read_entries
from components.publish import sha256_of


class Scope:
    """The rules of one crawl.

    Args:
        config: The crawl's settings.

    Raises:
        ConfigError: If a rule is none, or the opt-out file cannot be read or is another one than expected.
    """

    def __init__(self, config: CrawlConfig) -> None:
        self._max_url_chars = config.max_url_chars
        self._suffixes = tuple(_bare(suffix, "crawl.host_suffixes") for suffix in config.host_suffixes)
        named = (normalise(url) for url in (*config.seeds, *config.feeds))
        self._hosts = {host_of(url) for url in named if url} | {_bare(one, "crawl.hosts") for one in config.hosts}
        self._include = _Prefixes(config.include, "crawl.include")
        self._exclude = _Prefixes(config.exclude, "crawl.exclude")
        self._opt_out = OptOuts([*config.opt_out, *_listed(config)])
        numbers = {prefix: int(number) for prefix, number in config.priorities.items()}
        self._priorities = [(_Prefixes([prefix], "crawl.priorities"), number) for prefix, number in numbers.items()]
        self._priorities.sort(key=lambda rule: -rule[0].length)

    def refusal(self, url: str, kind: str = PAGE) -> str:
        """Why a normalised URL is not even to be tried; empty if it is."""
        if self._opt_out.entry_for(url):
            return "opt-out"
        if not self._has_host(host_of(url)):
            return "scope"
        if self._exclude.cover(url) or (kind == PAGE and self._include and not self._include.cover(url)):
            return "path"
        if len(url) > self._max_url_chars:
            return "URL length"
        return "file type" if kind == PAGE and not looks_like_page(url) else ""

    def priority(self, url: str, otherwise: int = LINK_PRIORITY) -> int:
        """How soon a page is fetched on its host: what the settings say, else `otherwise`."""
        return next((number for prefix, number in self._priorities if prefix.cover(url)), otherwise)

    def _has_host(self, host: str) -> bool:
        if host in self._hosts:
            return True
        name = host.rpartition(":")[0] or host
        return any(name == suffix or name.endswith("." + suffix) for suffix in self._suffixes)


class _Prefixes:
    """Some paths and URLs, each standing for all below it."""

    def __init__(self, prefixes: Iterable[str], key: str) -> None:
        texts = list(prefixes)
        self._paths = tuple(_written(f"http://host{text}", key)[4:] for text in texts if text.startswith("/"))
        self._places = tuple(_written(text, key) for text in texts if not text.startswith("/"))
        self.length = max((len(text.partition("://")[2] or text) for text in texts), default=0)

    def __bool__(self) -> bool:
        return bool(self._paths or self._places)

    def cover(self, url: str) -> bool:
        """Whether a normalised URL lies below one of them."""
        if not self:
            return False
        place = url.partition("://")[2]
        path = place[place.index("/") :]
        return any(is_below(path, prefix) for prefix in self._paths) or any(is_below(place, p) for p in self._places)


def _listed(config: CrawlConfig) -> list[str]:
    """The entries of the opt-out file."""
    if not config.opt_out_file:
        return []
    path = Path(config.opt_out_file)
    entries = read_entries(path)
    if config.opt_out_digest not in ("", sha256_of(path)):
        what = f"The opt-out list {path} is not the one that crawl.opt_out_digest tells of."
        raise ConfigError(what, "crawl.opt_out_digest", f"set it to {sha256_of(path)}")
    return entries


def _written(url: str, key: str) -> str:
    """A URL without its scheme, in the one spelling."""
    found = normalise(url)
    if found is None:
        raise ConfigError(f"{key}: {url} is no URL.", key, "write a path such as /docs/ or a URL")
    return found.partition("://")[2]


def _bare(host: str, key: str) -> str:
    """A host in its one spelling."""
    url = normalise(f"http://{host.strip('.')}/")
    if url is None:
        raise ConfigError(f"{key}: {host} is no host.", key, "write a name such as example.org")
    return host_of(url)
