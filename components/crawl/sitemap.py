"""Sitemaps: the XML format of sitemaps.org (lists and indexes, plain or gzip), or one URL a line.

Files in the wild are cut off, escaped badly or followed by an HTML error. What could be read before the first fault is
used, because a sitemap only adds to what the links give.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from xml.etree.ElementTree import Element, ParseError, iterparse

MAX_SITEMAP_BYTES = 50_000_000
MAX_SITEMAP_URLS = 50_000
_MAX_TAGS = 600_000  # Fifty thousand URLs with all the fields they may have; reading so many takes a second or two.
_MAX_URL_CHARS = 10_000


@dataclass(frozen=True)
class Hint:
    """What a site says of one of its pages: when it changed last, as it stands there, and how it ranks (0 to 1)."""

    changed: str = ""
    priority: str = ""


@dataclass
class Sitemap:
    """What a sitemap holds.

    Attributes:
        pages: URLs of pages as they stand in the file, not yet normalised.
        sitemaps: URLs of further sitemaps.
        hints: What the file says of a page beside its place, by the URL as it stands there.
        fault: Why reading ended before the end; empty if it did not.
    """

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)
    hints: dict[str, Hint] = field(default_factory=dict)
    fault: str = ""


def read_sitemap(body: bytes) -> Sitemap:
    """Reads a sitemap in any of its forms; whatever is none gives an empty one."""
    content = _inflated(body) if body.startswith(b"\x1f\x8b") else body[:MAX_SITEMAP_BYTES]
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _read_xml(content)
    lines = content.decode("utf-8", errors="replace").removeprefix("\ufeff").splitlines()
    named = (line.strip() for line in lines if line.lstrip().startswith("http") and len(line) <= _MAX_URL_CHARS)
    return Sitemap(pages=list(islice(named, MAX_SITEMAP_URLS)))


def bounded(content: bytes) -> bytes:
    """An XML document up to the tag from which on it has too many: elements fill memory until they are closed."""
    beyond = next(islice(re.finditer(rb"<", content), _MAX_TAGS, None), None)
    return content[: beyond.start()] if beyond else content


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MAX_SITEMAP_BYTES)
    except zlib.error:
        return b""  # Not gzip after all: an empty sitemap.


def _read_xml(content: bytes) -> Sitemap:
    found = Sitemap()
    # Sitemaps need no document type, and entities are how a small file becomes a large one.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        found.fault = "has a document type"
        return found
    targets = {"url": found.pages, "sitemap": found.sitemaps}
    try:
        for _, element in iterparse(BytesIO(bounded(content).lstrip(b" \t\r\n")), events=("end",)):
            target = targets.get(_local_name(element))
            if target is None:
                continue
            said = {_local_name(child): child.text.strip() for child in reversed(element) if child.text}
            if said.get("loc") and len(target) < MAX_SITEMAP_URLS and len(said["loc"]) <= _MAX_URL_CHARS:
                target.append(said["loc"])
                if "lastmod" in said or "priority" in said:
                    found.hints[said["loc"]] = Hint(said.get("lastmod", "")[:40], said.get("priority", "")[:10])
            element.clear()
    except (ParseError, ValueError, LookupError) as error:  # The latter two: an encoding nobody knows.
        found.fault = str(error)
    return found


def _local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2]
