"""The links of a page, out of any bytes whatever.

The bytes are decoded first (byte order mark, header, `<meta>`, else UTF-8; what does not decode becomes U+FFFD) so that
a link with non-ASCII letters comes out as its author meant it, and parsed by lexbor as a browser would.
"""

from __future__ import annotations

import codecs
import re

from components.crawl.urls import join

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.IGNORECASE)
_HEADER = re.compile(r"charset\s*=\s*[\"']?([a-zA-Z0-9_:.-]{2,40})", re.IGNORECASE)
_PRESCAN_BYTES = 4096
# What browsers read these labels as: supersets, because pages declare the smaller set and use the larger.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "cp1252", "big5": "big5hkscs"}


def page_links(payload: bytes, content_type: str, url: str) -> list[str]:
    """Normalised URLs that a page links to, each once, in document order.

    Args:
        payload: Body bytes, content encodings undone.
        content_type: Value of the Content-Type header.
        url: Normalised URL of the page.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(decode(payload, content_type))
    base_node = tree.css_first("base[href]")
    base = url
    if base_node is not None:
        base = join(url, base_node.attributes.get("href") or "") or url
    found: dict[str, None] = {}
    for node in tree.css("a[href], area[href], link[rel=next][href], iframe[src]"):
        attributes = node.attributes
        target = join(base, attributes.get("href") or attributes.get("src") or "")
        if target is not None:
            found[target] = None
    return list(found)


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
