"""Feeds: RSS 0.9 to 2.0, Atom and JSON Feed, read for the pages they name and when these changed.

As with sitemaps, what could be read before the first fault is used: a feed only adds to what the links give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError, iterparse

from components.crawl.sitemap import bounded
from components.crawl.urls import join

MAX_FEED_BYTES = 10_000_000
MAX_FEED_URLS = 10_000
_HEAD_BYTES = 65_536
_MAX_NAMED = 10
_LINK = re.compile(rb"<link\s[^>]{5,2000}>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"([a-zA-Z]{3,10})\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_TYPES = frozenset(("application/rss+xml", "application/atom+xml", "application/feed+json", "application/rdf+xml"))
_DATES = ("updated", "modified", "date", "pubdate", "published")


@dataclass
class Feed:
    """What a feed holds.

    Attributes:
        pages: URLs as they stand there, with the time of the last change as it stands there, or an empty text.
        fault: Why reading ended before the end; empty if it did not.
    """

    pages: list[tuple[str, str]] = field(default_factory=list)
    fault: str = ""


def read_feed(body: bytes) -> Feed:
    """Reads a feed in any of its forms; whatever is none gives an empty one."""
    content = body[:MAX_FEED_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if content.startswith(b"{"):
        return _read_json(content)
    if content.startswith(b"<"):
        return _read_xml(content)
    return Feed(fault="neither XML nor JSON")


def named_feeds(body: bytes, url: str) -> list[str]:
    """Normalised URLs of the feeds that a page names in its head, in order.

    Args:
        body: The page's bytes, content encodings undone.
        url: Normalised URL of the page.
    """
    found: dict[str, None] = {}
    for match in _LINK.finditer(body, 0, _HEAD_BYTES):
        text = match.group().decode("utf-8", errors="replace")
        values = {name.lower(): unescape(a or b or c) for name, a, b, c in _ATTRIBUTE.findall(text)}
        kind = values.get("type", "").partition(";")[0].strip().lower()
        if "alternate" in values.get("rel", "").lower().split() and kind in _TYPES:
            target = join(url, values.get("href", "")) if values.get("href") else None
            if target is not None and len(found) < _MAX_NAMED:
                found[target] = None
    return list(found)


def time_of(text: str) -> float:
    """Seconds since 1970 of a time as sitemaps and feeds write it (ISO 8601 or RFC 2822); 0 for anything else."""
    stripped = text.strip()
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        try:
            moment = parsedate_to_datetime(stripped)
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    try:
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0


def _read_json(content: bytes) -> Feed:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Feed(fault=f"no JSON: {error}"[:200])
    items = value.get("items")
    pages = []
    for item in (items if isinstance(items, list) else [])[:MAX_FEED_URLS]:
        if isinstance(item, dict) and isinstance(item.get("url"), str):
            pages.append((item["url"], str(item.get("date_modified") or item.get("date_published") or "")[:60]))
    return Feed(pages)


def _read_xml(content: bytes) -> Feed:
    found = Feed()
    # Feeds need no document type, and entities are how a small file becomes a large one.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        found.fault = "has a document type"
        return found
    try:
        for _, element in iterparse(BytesIO(bounded(content)), events=("end",)):
            name = _name(element)
            if name in ("item", "entry"):
                if len(found.pages) < MAX_FEED_URLS:
                    found.pages += _page_of(element)
                element.clear()
    except (ParseError, ValueError, LookupError) as error:  # The latter two: an encoding nobody knows.
        found.fault = str(error)[:200]
    return found


def _page_of(item: Element) -> Iterator[tuple[str, str]]:
    """The page that an item is about: its link, or an RSS `guid` that says it is one."""
    dates = {_name(child): (child.text or "").strip()[:60] for child in item}
    changed = next((dates[name] for name in _DATES if dates.get(name)), "")
    for child in item:
        name = _name(child)
        href = child.get("href") if child.get("rel", "alternate") == "alternate" else None
        target = (href or child.text or "").strip() if name == "link" else ""
        if name == "guid" and child.get("isPermaLink", "true") == "true" and (child.text or "").startswith("http"):
            target = (child.text or "").strip()
        if target:
            yield target, changed
            return


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2].lower()
