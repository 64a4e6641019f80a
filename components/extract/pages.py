"""One page to one document, or to the rule that refused it.

The rules in the order they are tried: `payload` (the archive has no body that can be read), `status` (not 200),
`content_type` (not HTML), `page_bytes` (too large), `attributes` and `nesting` (would take a parser minutes), `no_text`
(nothing but boilerplate), `encoding` (too much of it undecodable).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from components.crawl.links import MANY_ATTRIBUTES, has_giant_tag
from components.crawl.urls import join
from components.crawl.warc_read import Page
from components.documents import Document, Dropped, Outcome, make_doc_id
from components.extract.config import ExtractConfig
from components.extract.decode import Decoded, decode_page
from components.extract.language import detect_language_and_script
from components.extract.links import PageLinks, resolve
from components.extract.nesting import open_tags
from components.extract.reading import Reading, collector_at_rest, read_html

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


@dataclass
class GroupOutcome:
    """What became of some pages.

    Attributes:
        outcome: Their documents, and the ledger rows of the others.
        links: The links of the documents.
    """

    outcome: Outcome = field(default_factory=Outcome)
    links: list[PageLinks] = field(default_factory=list)


def extract_group(group: PageGroup) -> GroupOutcome:
    """Extracts some pages; what becomes of a page depends on that page alone."""
    with collector_at_rest():
        return _extract_all(group)


def _extract_all(group: PageGroup) -> GroupOutcome:
    """In two rounds, because the language model and the parser drive each other out of the processor's cache."""
    result = GroupOutcome()
    readings = [(page, _read(page, group.config)) for page in group.pages]
    for page, reading in readings:
        document = _document(page, reading, group.config)
        if isinstance(document, Document):
            result.outcome.kept.append(document)
            result.links.append((document.doc_id, _targets(page, reading)))
        else:
            result.outcome.dropped.append(document)
    return result


def extract_page(page: Page, config: ExtractConfig) -> Document | Dropped:
    """Extracts one page, without its links. Never raises, whatever its bytes."""
    return _document(page, _read(page, config), config)


def _read(page: Page, config: ExtractConfig) -> Reading | _Refusal:
    decoded = _decoded(page, config)
    if isinstance(decoded, _Refusal):
        return decoded
    reading = read_html(decoded.text, page.url, page.headers, config.form, config.links, decoded.utf8)
    return _judged(reading.text, config) or reading


def _document(page: Page, reading: Reading | _Refusal, config: ExtractConfig) -> Document | Dropped:
    doc_id = make_doc_id(config.source, page.url, page.payload)
    if isinstance(reading, _Refusal):
        return Dropped(doc_id, page.url, *reading)
    lang, script = detect_language_and_script(reading.text)
    return Document(
        doc_id,
        config.source,
        page.url,
        lang,
        reading.title,
        reading.text,
        script,
        reading.date,
        reading.licence,
        reading.opt_out,
    )


def _targets(page: Page, reading: Reading | _Refusal) -> list[str]:
    """Where a page leads."""
    if isinstance(reading, _Refusal):
        return []
    return resolve(join(page.url, reading.base) or page.url, reading.references)


class _Refusal(NamedTuple):
    """Why a page is dropped."""

    rule: str
    value: str
    threshold: str


def _decoded(page: Page, config: ExtractConfig) -> Decoded | _Refusal:
    """A page's HTML, if it is a page that can be read."""
    content_type = page.headers.get("content-type", "")
    if page.fault:
        return _Refusal("payload", page.fault, "a body that can be decoded")
    if page.status != 200:
        return _Refusal("status", str(page.status), "200")
    if not _is_html(content_type, page.payload):
        return _Refusal("content_type", content_type.split(";")[0].strip() or "unknown", ", ".join(_HTML_TYPES))
    if len(page.payload) > config.max_page_bytes:
        return _Refusal("page_bytes", str(len(page.payload)), str(config.max_page_bytes))
    decoded = decode_page(page.payload, content_type)
    if has_giant_tag(decoded.text):
        return _Refusal("attributes", f"over {MANY_ATTRIBUTES}", str(MANY_ATTRIBUTES))
    nesting = open_tags(decoded.text, decoded.utf8)
    return decoded if nesting <= _MAX_OPEN_TAGS else _Refusal("nesting", str(nesting), str(_MAX_OPEN_TAGS))


def _judged(text: str, config: ExtractConfig) -> _Refusal | None:
    """Why a text is none, if so."""
    if not text:
        return _Refusal("no_text", "0", "1")
    faults = len(_FAULTS.findall(text)) / len(text)
    if faults > config.max_replaced_share:
        return _Refusal("encoding", f"{faults:.4f}", str(config.max_replaced_share))
    return None


def _is_html(content_type: str, payload: bytes) -> bool:
    """By the declared type; by the first bytes where none, or only a useless one, is declared."""
    declared = content_type.split(";")[0].strip().lower()
    if declared in ("", "application/octet-stream", "application/x-unknown-content-type"):
        return _LOOKS_LIKE_HTML.search(payload[:1024]) is not None
    return declared in _HTML_TYPES
