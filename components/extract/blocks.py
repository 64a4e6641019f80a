"""A page as a flat list of blocks in reading order: what a reader would call lines and paragraphs.

One walk over the lexbor tree, without recursion (pages nest thousands deep), leaves out what is never text, closes a
block at every block element and remembers for each block how much of it is link text and in which containers it
stands. Deciding which blocks are the page's own text is `main_text`'s part: it needs to see them all.

The walk is where extraction spends its time, so it is one loop over local names: with a class and a method per event
it took three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from selectolax.lexbor import LexborHTMLParser

from components.extract.boilerplate import (
    BOILERPLATE,
    COMMENTARY,
    COMMENTS,
    INVISIBLE,
    SURROUNDING,
    SURROUNDING_ROLES,
    TEASER,
    is_hidden,
    says,
)

_BLOCK_TAGS_TEXT = """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary table
    tbody td tfoot th thead tr ul
"""
BLOCK_TAGS = frozenset(_BLOCK_TAGS_TEXT.split())
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_KEPT_WHOLE = frozenset(("body", "html", "main", "article"))
_TEXT, _PLAIN, _LINK, _SKIPPED, _BREAK, _BLOCK, _INLINE = range(7)
_KINDS = (
    {"-text": _TEXT, "a": _LINK, "br": _BREAK}
    # Inline elements that are part of their line whatever their attributes say.
    | dict.fromkeys(("b", "strong", "em", "i", "u", "code", "font", "sup", "sub"), _PLAIN)
    | dict.fromkeys(BLOCK_TAGS, _BLOCK)
    | dict.fromkeys(["-comment", *INVISIBLE], _SKIPPED)
)
_KINDS_OF_TEXT = _KINDS | dict.fromkeys(SURROUNDING, _SKIPPED)
_NOT_ENTERED = (_SKIPPED, _BREAK)
# Stands for a forced line break until whitespace is collapsed; no HTML text holds it (a control character).
_NEWLINE = "\x1e"
_MAX_PASSED = 40
_MAX_PASSED_CHARS = 200


@dataclass(slots=True)
class Container:
    """A block element that holds others.

    Attributes:
        parent: Index of the container around it, -1 for the outermost.
        tag: Its element name.
        suspect: The names (class, id or role) that say it is boilerplate; empty if none does.
        comments: Whether its names say that it holds readers' comments.
        teaser: Whether its names say that it is a foretaste of a text, perhaps another one.
    """

    parent: int
    tag: str
    suspect: str
    comments: bool
    teaser: bool


@dataclass(slots=True)
class Block:
    """A line or paragraph.

    Attributes:
        tag: The block element whose text it is ("p", "li", "h2", "td", ...).
        text: Its text, whitespace collapsed; lines of a `pre` or after `br` are separated by newlines.
        link_chars: Characters of it that are link text.
        container: Index of the container it stands in.
    """

    tag: str
    text: str
    link_chars: int
    container: int


@dataclass(slots=True)
class Page:
    """A page taken apart.

    Attributes:
        blocks: Its blocks, in reading order.
        containers: Its block elements, parents before children.
        parents: For each of them the index of the one around it, -1 for the outermost: what most loops are over.
        passed: Texts of inline elements that were passed over for their names: dates often stand there.
    """

    blocks: list[Block] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)


def read_blocks(tree: LexborHTMLParser, landmarks: bool) -> Page:
    """Takes a parsed page apart.

    Args:
        tree: The parsed page.
        landmarks: Whether to read navigation, footers and the like too.
    """
    page = Page()
    if tree.body is None:
        return page
    kinds = _KINDS if landmarks else _KINDS_OF_TEXT
    blocks, containers, parents = page.blocks, page.containers, page.parents
    containers.append(Container(-1, "body", "", False, False))
    parents.append(-1)
    open_containers, open_tags, nodes = [0], ["body"], [tree.body.iter(include_text=True)]
    pieces: list[str] = []
    link_chars = in_link = in_pre = 0

    def flush() -> None:
        raw = "".join(pieces)
        pieces.clear()
        text = _collapse_pre(raw) if in_pre else _collapse(raw)
        if text:
            own = open_containers[-1]
            blocks.append(Block(containers[own].tag, text, min(link_chars, len(text)), own))

    while nodes:
        for node in nodes[-1]:
            tag = node.tag or ""
            kind = kinds.get(tag, _INLINE)
            if kind == _TEXT:
                text = node.text_content or ""
                if pieces or in_pre or not text.isspace():
                    pieces.append(text)
                    if in_link:
                        link_chars += len(text.strip())
                continue
            if kind in _NOT_ENTERED:
                if kind == _BREAK and pieces:
                    pieces.append(_NEWLINE)
                continue
            if kind >= _BLOCK:
                attributes = node.attributes
                suspect, comments, teaser = "", False, False
                if attributes:
                    get = attributes.get
                    suspect, comments, teaser = _judge(get("class"), get("id"), get("role"))
                    if "hidden" in attributes or get("aria-hidden") == "true" or is_hidden(get("style")):
                        continue
                if kind == _INLINE:
                    if suspect:
                        _pass_over(page, node.text())
                        continue
                else:
                    if pieces:
                        flush()
                    link_chars = 0
                    parent = open_containers[-1]
                    open_containers.append(len(containers))
                    parents.append(parent)
                    suspect = "" if tag in _KEPT_WHOLE else suspect
                    containers.append(Container(parent, tag, suspect, comments, teaser))
                    in_pre += tag == "pre"
            elif kind == _LINK:
                in_link += 1
            open_tags.append(tag)
            nodes.append(node.iter(include_text=True))
            break
        else:
            nodes.pop()
            tag = open_tags.pop()
            if tag == "a":
                in_link -= 1
            elif tag in BLOCK_TAGS:
                if pieces:
                    flush()
                link_chars = 0
                open_containers.pop()
                in_pre -= tag == "pre"
    return page


def _pass_over(page: Page, text: str) -> None:
    if len(page.passed) < _MAX_PASSED and len(text) <= _MAX_PASSED_CHARS:
        page.passed.append(text)


@lru_cache(maxsize=65_536)
def _judge(own_class: str | None, own_id: str | None, role: str | None) -> tuple[str, bool, bool]:
    """What the names of an element say: those that say it is boilerplate, whether it is comments, or a teaser."""
    names = f"{own_class or ''} {own_id or ''}"
    said = 0
    for name in names.split():
        said |= _SAID.get(name) or _learn(name)
    comments = said & (COMMENTS | COMMENTARY) == COMMENTS
    suspect = f"role={role}" if role in SURROUNDING_ROLES else names if said & BOILERPLATE else ""
    return suspect, comments, bool(said & TEASER)


# What names say that were met before: pages put ever new sets of names together, but the names are few.
_SAID: dict[str, int] = {}
_MAX_SAID = 65_536


def _learn(name: str) -> int:
    if len(_SAID) >= _MAX_SAID:
        _SAID.clear()
    _SAID[name] = said = says(name)
    return said


def _collapse(raw: str) -> str:
    """Whitespace as a browser shows it; forced line breaks become newlines."""
    if _NEWLINE not in raw:
        return " ".join(raw.split())
    lines = (" ".join(line.split()) for line in raw.split(_NEWLINE))
    return "\n".join(line for line in lines if line)


def _collapse_pre(raw: str) -> str:
    lines = raw.replace(_NEWLINE, "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
