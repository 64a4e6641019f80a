"""One HTML page read whole: its text and title, its date, licence and opt-out, and the links that stand on it.

The page is parsed once; what it says about itself (`facts`), its text (`main_text`, `rendering`) and its links are
read from the one tree.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

from components.extract.dates import date_by_cue, date_in_url, parse_date
from components.extract.facts import Facts, read_facts
from components.extract.main_text import Choice, choose_main_text
from components.extract.rendering import render

_SITE = re.compile(
    r"\s+[-|\u2013\u2014\u00b7_\u00ab\u00bb]\s+|\s*[|_]\s*|\s*\u2014\u2014\s*|(?<=[\u2e80-\ua4cf])-(?=[\u2e80-\ua4cf])"
)
# Where a date that no word announces may stand: this many blocks around the beginning of the text, if they are short.
_NEAR_BLOCKS = 6
_SHORT_CHARS = 100


@dataclass(frozen=True)
class Reading:
    """What a page says.

    Attributes:
        title: Its title.
        text: Its own text, without what surrounds it.
        date: When it was published or, failing that, last changed: "YYYY-MM-DD", or empty.
        licence: SPDX id or URL of its licence, or empty.
        opt_out: What asks that no model learns from it, or empty.
        base: What its links are relative to, where it says so; else empty.
        references: The `href` of its links, as they stand.
    """

    title: str
    text: str
    date: str
    licence: str
    opt_out: str
    base: str
    references: list[str]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """The collector of cycles rests meanwhile.

    A page taken apart is thousands of small objects without a cycle, freed as soon as the page is done, and looking
    through them again and again took a tenth of the time.
    """
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            gc.enable()


def read_html(
    html: str,
    url: str = "",
    headers: Mapping[str, str] | None = None,
    form: str = "plain",
    links: bool = False,
    raw: bytes | None = None,
) -> Reading:
    """Reads a page; text and title are empty if it has none.

    Args:
        html: The decoded page. Nesting must have been checked (`nesting.open_tags`).
        url: Where it is from; a date may stand there.
        headers: Response headers, names in lower case.
        form: "plain" or "markdown", see `rendering`.
        links: Whether to read the links.
        raw: The page in UTF-8, where it is at hand: the parser would encode it again.
    """
    with collector_at_rest():
        return _read(html, url, headers or {}, form, links, raw)


def _read(html: str, url: str, headers: Mapping[str, str], form: str, links: bool, raw: bytes | None) -> Reading:
    tree = LexborHTMLParser(html if raw is None else raw)
    facts = read_facts(tree, html, headers)
    choice = choose_main_text(tree, facts.title)
    references = [node.attributes.get("href") or "" for node in tree.css("a[href], area[href]")] if links else []
    return Reading(
        title=_title(facts, choice),
        text=render(choice.page, choice.kept, form),
        date=_date(facts, url, choice),
        licence=facts.licence,
        opt_out=", ".join(sorted(facts.opt_outs)),
        base=facts.base,
        references=references,
    )


def _title(facts: Facts, choice: Choice) -> str:
    """The main heading if the page's title begins with it, else the shared title, else the title without the site."""
    own = facts.title
    blocks = zip(choice.page.tags, choice.page.texts, strict=True)
    heads = [" ".join(text.split()) for tag, text in blocks if tag == "h1"]
    for head in heads:
        if head and own.lower().startswith(head.lower()):
            return head
    if facts.shared_title:
        return facts.shared_title
    if own:
        parts = _SITE.split(own)
        return max(parts[:2], key=len) if len(parts) > 1 else own
    return heads[0] if heads else ""


def _date(facts: Facts, url: str, choice: Choice) -> str:
    """Metadata, then `time`, then the URL, then what the page shows; a change counts where no publication is told."""
    return facts.published or facts.shown or date_in_url(url) or _shown_date(choice) or facts.modified


def _shown_date(choice: Choice) -> str:
    """A date that is announced in a short line anywhere, or stands alone in one near the beginning of the text."""
    texts, passed = choice.page.texts, choice.page.passed
    first = choice.kept[0] if choice.kept else 0
    near = texts[max(0, first - _NEAR_BLOCKS) : first + _NEAR_BLOCKS]
    found = date_by_cue([text for text in texts if len(text) <= _SHORT_CHARS] + passed)
    return found or next(
        (date for line in near + passed if len(line) <= _SHORT_CHARS and (date := parse_date(line))),
        "",
    )
