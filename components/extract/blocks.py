"""A page as a flat list of blocks in reading order: what a reader would call lines and paragraphs.

One walk over the lexbor tree, without recursion (pages nest thousands deep), leaves out what is never text, closes a
block at every block element and remembers for each block how much of it is link text and in which containers it
stands. Deciding which blocks are the page's own text is `main_text`'s part: it needs to see them all.

The walk is where extraction spends its time, so it is one loop over local names that goes from node to node: with a
class and a method per event it took three times as long, and going by an iterator per element takes half as long again
as going from node to node. A block element becomes a container only when text turns up in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from components.extract.boilerplate import (
    BOILERPLATE,
    COMMENTARY,
    COMMENTS,
    INVISIBLE,
    NAMED,
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
# What the walk does with a node; from _BLOCK on it is a block element, and its name is `_BLOCK_NAMES[kind - _BLOCK]`.
_TEXT, _SKIPPED, _BREAK, _PLAIN, _LINK, _INLINE, _BLOCK = range(7)
_BLOCK_NAMES = sorted(BLOCK_TAGS)
_PRE = _BLOCK + _BLOCK_NAMES.index("pre")
# Inline elements that are part of their line whatever their attributes say.
_PLAIN_NAMES = ("b", "strong", "em", "i", "u", "code", "font", "sup", "sub")


def _kinds(skipped: Iterable[str]) -> dict[int, int]:
    """What to do with a node, by the parser's number for its name: reading the name itself takes twice as long."""
    tree = LexborHTMLParser("<p>text<!-- comment -->")
    text, comment = tree.css("p")[0].iter(include_text=True)
    kinds = {name: _BLOCK + place for place, name in enumerate(_BLOCK_NAMES)}
    kinds |= {"a": _LINK, "br": _BREAK} | dict.fromkeys(_PLAIN_NAMES, _PLAIN) | dict.fromkeys(skipped, _SKIPPED)
    numbered = {tree.create_node(name).tag_id: kind for name, kind in kinds.items()}
    return numbered | {text.tag_id: _TEXT, comment.tag_id: _SKIPPED}


_KINDS = _kinds(INVISIBLE)
_KINDS_OF_TEXT = _kinds([*INVISIBLE, *SURROUNDING])
# Stands for a forced line break until whitespace is collapsed; no HTML text holds it (a control character).
_NEWLINE = "\x1e"
_MAX_PASSED = 40
_MAX_PASSED_CHARS = 200


class Names(NamedTuple):
    """What the names of an element (class, id, role) say of it.

    Attributes:
        suspect: Those that say it is boilerplate; empty if none does.
        comments: Whether they say that it holds readers' comments.
        teaser: Whether they say that it is a foretaste of a text, perhaps another one.
    """

    suspect: str
    comments: bool
    teaser: bool


NO_NAMES = Names("", False, False)


@dataclass(slots=True)
class Page:
    """A page taken apart, in columns: objects for blocks and containers took a tenth of the walk.

    Attributes:
        texts: Of the blocks, in reading order, the text, whitespace collapsed; lines of a `pre` or after `br` are
            separated by newlines.
        link_chars: Of the blocks, how many characters are link text.
        places: Of the blocks, the index of the container that each stands in.
        tags: Of the blocks, the element name of that ("p", "li", "h2", "td", ...).
        parents: Of the containers, which are the block elements with text in them, the index of the one around each,
            -1 for the outermost; parents come before their children.
        elements: Of the containers, the element name.
        names: Of the containers, what their names say.
        passed: Texts of inline elements that were passed over for their names: dates often stand there.
    """

    texts: list[str] = field(default_factory=list)
    link_chars: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    names: list[Names] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Path:
    """The block elements that are open: the containers among them, and those within, in which no text stood yet."""

    containers: list[int] = field(default_factory=list)
    bare: list[tuple[int, Names]] = field(default_factory=list)


def read_blocks(tree: LexborHTMLParser, landmarks: bool) -> Page:
    """Takes a parsed page apart.

    Args:
        tree: The parsed page.
        landmarks: Whether to read navigation, footers and the like too.
    """
    page = Page()
    if tree.body is None:
        return page
    kind_of = (_KINDS if landmarks else _KINDS_OF_TEXT).get
    path = _Path()
    _open(page, path, "body", NO_NAMES)
    bare, containers = path.bare, path.containers
    above: list[tuple[LexborNode, int]] = []  # all open elements
    pieces: list[str] = []
    link_chars = in_link = in_pre = 0
    node = tree.body.first_child
    while True:
        while node is not None:
            kind = kind_of(node.tag_id, _INLINE)
            if kind == _TEXT:
                text = node.text_content or ""
                if pieces or in_pre or not text.isspace():
                    pieces.append(text)
                    if in_link:
                        link_chars += len(text.strip())
            elif kind > _BREAK:
                child = node.first_child
                names = NO_NAMES
                # The attributes of a block that is empty and ends none matter to nobody.
                if kind == _INLINE or (kind >= _BLOCK and (child is not None or pieces)):
                    attributes = node.attributes
                    if attributes:
                        get = attributes.get
                        names = _judge(get("class"), get("id"), get("role"))
                        if "hidden" in attributes or get("aria-hidden") == "true" or is_hidden(get("style")):
                            node = node.next
                            continue
                if kind >= _BLOCK:
                    if pieces:
                        _close_block(page, path, pieces, link_chars, in_pre)
                    link_chars = 0
                elif names.suspect:
                    _pass_over(page, node.text())
                    child = None
                if child is not None:
                    if kind >= _BLOCK:
                        bare.append((kind, names))
                        in_pre += kind == _PRE
                    elif kind == _LINK:
                        in_link += 1
                    above.append((node, kind))
                    node = child
                    continue
            elif kind == _BREAK and pieces:
                pieces.append(_NEWLINE)
            node = node.next
        if not above:
            break
        node, kind = above.pop()
        if kind >= _BLOCK:
            if pieces:
                _close_block(page, path, pieces, link_chars, in_pre)
            link_chars = 0
            (bare or containers).pop()
            in_pre -= kind == _PRE
        elif kind == _LINK:
            in_link -= 1
        node = node.next
    if pieces:
        _close_block(page, path, pieces, link_chars, in_pre)
    return page


def _close_block(page: Page, path: _Path, pieces: list[str], link_chars: int, in_pre: int) -> None:
    """Adds the pieces read as a block, if they are a text, to the innermost element that is open."""
    raw = "".join(pieces)
    pieces.clear()
    text = _collapse_pre(raw) if in_pre else _collapse(raw)
    if not text:
        return
    for kind, names in path.bare:
        _open(page, path, _BLOCK_NAMES[kind - _BLOCK], names)
    path.bare.clear()
    place = path.containers[-1]
    page.texts.append(text)
    page.link_chars.append(min(link_chars, len(text)))
    page.places.append(place)
    page.tags.append(page.elements[place])


def _open(page: Page, path: _Path, element: str, names: Names) -> None:
    """Makes a block element a container."""
    page.parents.append(path.containers[-1] if path.containers else -1)
    path.containers.append(len(page.elements))
    page.elements.append(element)
    page.names.append(names._replace(suspect="") if names.suspect and element in _KEPT_WHOLE else names)


def _pass_over(page: Page, text: str) -> None:
    if len(page.passed) < _MAX_PASSED and len(text) <= _MAX_PASSED_CHARS:
        page.passed.append(text)


@lru_cache(maxsize=65_536)
def _judge(own_class: str | None, own_id: str | None, role: str | None) -> Names:
    """What the names of an element say: those that say it is boilerplate, whether it is comments, or a teaser."""
    names = f"{own_class or ''} {own_id or ''}"
    said = 0
    for name in names.split():
        said |= _SAID.get(name) or _learn(name)
    comments = said & (COMMENTS | COMMENTARY) == COMMENTS
    suspect = f"role={role}" if role in SURROUNDING_ROLES else names if said & BOILERPLATE else ""
    return Names(suspect, comments, bool(said & TEASER)) if suspect or said > NAMED else NO_NAMES


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
    raw = raw.strip()
    if raw.isprintable() and "  " not in raw:  # the only printable whitespace is the space
        return raw
    if _NEWLINE not in raw:
        return " ".join(raw.split())
    lines = (" ".join(line.split()) for line in raw.split(_NEWLINE))
    return "\n".join(line for line in lines if line)


def _collapse_pre(raw: str) -> str:
    lines = raw.replace(_NEWLINE, "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
