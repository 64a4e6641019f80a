"""One page to one document, or to the rule that refused it.

The rules in the order they are tried: `status` (not 200), `content_type` (not HTML), `page_bytes` (too large),
`nesting` (would take a parser minutes), `no_text` (nothing but boilerplate), `encoding` (too much of it undecodable).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.crawl.warc_read import Page
from components.documents import Document, Dropped, Outcome, make_doc_id
from components.extract.config import ExtractConfig
from components.extract.decode import decode_page
from components.extract.language import detect_language
from components.extract.main_text import extract_main_text
from components.extract.nesting import open_tags

_HTML_TYPES = ("text/html", "application/xhtml+xml")
_LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
# Undecodable, and what no text holds: control characters, and the private use area that misread GB 18030 falls into.
_FAULTS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd]")
_MAX_OPEN_TAGS = 1000


@dataclass(frozen=True)
class PageGroup:
    """Some pages for one worker."""

    config: ExtractConfig
    pages: Sequence[Page]


def extract_group(group: PageGroup) -> Outcome:
    """Extracts some pages; what becomes of a page depends on that page alone."""
    outcome = Outcome()
    for page in group.pages:
        result = extract_page(page, group.config)
        if isinstance(result, Document):
            outcome.kept.append(result)
        else:
            outcome.dropped.append(result)
    return outcome


def extract_page(page: Page, config: ExtractConfig) -> Document | Dropped:
    """Extracts one page. Never raises, whatever its bytes."""
    doc_id = make_doc_id(config.source, page.url, page.payload)

    def drop(rule: str, value: object, threshold: object) -> Dropped:
        return Dropped(doc_id, page.url, rule, str(value), str(threshold))

    content_type = page.headers.get("content-type", "")
    if page.status != 200:
        return drop("status", page.status, 200)
    if not _is_html(content_type, page.payload):
        return drop("content_type", content_type.split(";")[0].strip() or "unknown", ", ".join(_HTML_TYPES))
    if len(page.payload) > config.max_page_bytes:
        return drop("page_bytes", len(page.payload), config.max_page_bytes)
    html = decode_page(page.payload, content_type).text
    nesting = open_tags(html)
    if nesting > _MAX_OPEN_TAGS:
        return drop("nesting", nesting, _MAX_OPEN_TAGS)
    main = extract_main_text(html)
    if not main.text:
        return drop("no_text", 0, 1)
    faults = len(_FAULTS.findall(main.text)) / len(main.text)
    if faults > config.max_replaced_share:
        return drop("encoding", f"{faults:.4f}", config.max_replaced_share)
    return Document(doc_id, config.source, page.url, detect_language(main.text), main.title, main.text)


def _is_html(content_type: str, payload: bytes) -> bool:
    """By the declared type; by the first bytes where none, or only a useless one, is declared."""
    declared = content_type.split(";")[0].strip().lower()
    if declared in ("", "application/octet-stream", "application/x-unknown-content-type"):
        return _LOOKS_LIKE_HTML.search(payload[:1024]) is not None
    return declared in _HTML_TYPES
