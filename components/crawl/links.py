"""The links of a page, out of any bytes whatever.

The bytes are decoded first (byte order mark, header, `<meta>`, else UTF-8; what does not decode becomes U+FFFD) so that
a link with non-ASCII letters comes out as its author meant it, and parsed by lexbor as a browser would.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from html import unescape
from itertools import islice

from components.crawl.urls import join, join_all

MAX_LINKS = 10_000
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.IGNORECASE)
_HEADER = re.compile(r"charset\s*=\s*[\"']?([a-zA-Z0-9_:.-]{2,40})", re.IGNORECASE)
_PRESCAN_BYTES = 4096
_MANY_TAGS = 10_000
_MAX_DEPTH = 2_000
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})")
_GIANT_TAG_CHARS = 100_000
MANY_ATTRIBUTES = 5_000
_WHOLE_TAG = re.compile(r"<[a-zA-Z](?:[^>=]++|=\s*+(?:\"[^\"]*+\"?+|'[^']*+'?+)?+)*+")
_QUOTED = re.compile(r"\"[^\"]*+\"|'[^']*+'")
_BETWEEN = re.compile(r"[\s/\"]+")
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_ANCHOR = re.compile(r"<a\s[^>]{0,500}?href\s*=\s*[\"']?([^\"'\s>]{1,2000})", re.IGNORECASE)
# What browsers read these labels as: supersets, because pages declare the smaller set and use the larger.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "cp1252", "big5": "big5hkscs"}


def page_links(payload: bytes, content_type: str, url: str) -> list[str]:
    """Normalised URLs that a page links to, each once, in document order: the first `MAX_LINKS` of them.

    A page with more of them is made to keep a crawler busy.

    Args:
        payload: Body bytes, content encodings undone.
        content_type: Value of the Content-Type header.
        url: Normalised URL of the page.
    """
    text = decode(payload, content_type)
    base, references = _matched(text) if too_deep(text) or has_giant_tag(text) else _parsed(text)
    base = join(url, base) or url
    return join_all(base, islice(dict.fromkeys(references), MAX_LINKS))


def too_deep(text: str) -> bool:
    """Whether elements nest deeper than any honest page's (and than browsers follow, some 500 levels).

    The parser's time grows with the square of the depth: 100,000 nested elements, half a megabyte, take it a minute.
    """
    if text.count("<") < _MANY_TAGS:
        return False
    still_open: Counter[str] = Counter()
    depth = 0
    for closing, name in _TAG.findall(text):
        name = name.lower()
        if not closing:
            if name not in _VOID:
                still_open[name] += 1
                depth += 1
        elif still_open[name]:
            still_open[name] -= 1
            depth -= 1
        if depth > _MAX_DEPTH:
            return True
    return False


def has_giant_tag(text: str) -> bool:
    """Whether a tag has more attributes than any honest one.

    The parser compares every attribute of a tag with all before it: 300,000 of them, three megabytes, take it minutes.
    Short pages are let through, since what they can hold takes it a second or two at most.
    """
    if len(text) < _GIANT_TAG_CHARS:
        return False
    for match in _WHOLE_TAG.finditer(text):
        if match.end() - match.start() >= _GIANT_TAG_CHARS:
            bare = _QUOTED.sub('""', match.group())  # A picture in an attribute is long too.
            if len(_BETWEEN.findall(bare)) > MANY_ATTRIBUTES:
                return True
    return False


def _parsed(text: str) -> tuple[str, list[str]]:
    """Base and links of a page, as they stand there."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    base = tree.css_first("base[href]")
    nodes = tree.css("a[href], area[href], link[rel=next][href], iframe[src]")
    attributes = [node.attributes for node in nodes]
    references = [found.get("href") or found.get("src") or "" for found in attributes]
    return (base.attributes.get("href") or "" if base is not None else ""), references


def _matched(text: str) -> tuple[str, list[str]]:
    """The same without a parser, for pages that would keep it busy for minutes."""
    return "", [unescape(reference) for reference in _ANCHOR.findall(text)]


def decode(payload: bytes, content_type: str) -> str:
    """Text of a page as a browser would decode it, never failing."""
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return payload[len(mark) :].decode(encoding, errors="replace")
    in_header = _HEADER.search(content_type)
    in_page = _META.search(payload[:_PRESCAN_BYTES])
    for label in (in_header and in_header.group(1), in_page and in_page.group(1).decode("ascii")):
        if label:
            return payload.decode(_codec(label), errors="replace")
    return payload.decode("utf-8", errors="replace")


def _codec(label: str) -> str:
    """Python's name for a charset label; UTF-8 for an unknown one, and for UTF-16 in a place only ASCII can be read."""
    try:
        info = codecs.lookup(label)
    except LookupError:
        return "utf-8"
    is_text = getattr(info, "_is_text_encoding", True)  # "hex" and "zip" are codecs to Python, not to a page.
    name = _SUPERSETS.get(info.name, info.name)
    return "utf-8" if not is_text or name.startswith(("utf-16", "utf-7")) else name
