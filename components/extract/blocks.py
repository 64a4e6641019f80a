"""A page as a flat list of blocks in reading order: what a reader would call lines and paragraphs.

One walk over the lexbor tree, without recursion (pages nest thousands deep), leaves out what is never text, closes a
block at every block element and remembers for each block how much of it is link text and in which containers it
stands. Deciding which blocks are the page's own text is `main_text`'s part: it needs to see them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from components.extract.boilerplate import (
    INVISIBLE,
    SURROUNDING,
    SURROUNDING_ROLES,
    is_hidden,
    names_boilerplate,
)

_BLOCK_TAGS_TEXT = """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary table
    tbody td tfoot th thead tr ul
"""
BLOCK_TAGS = frozenset(_BLOCK_TAGS_TEXT.split())
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_KEPT_WHOLE = frozenset(("body", "html", "main", "article"))
# Inline elements that are part of their line whatever their attributes say.
_PLAIN = frozenset(("a", "b", "strong", "em", "i", "u", "code", "font", "sup", "sub"))
# Stands for a forced line break until whitespace is collapsed; no HTML text holds it (a control character).
_BREAK = "\x1e"


@dataclass(slots=True)
class Container:
    """A block element that holds others.

    Attributes:
        parent: Index of the container around it, -1 for the outermost.
        tag: Its element name.
        suspect: The names (class, id or role) that say it is boilerplate; empty if none does.
    """

    parent: int
    tag: str
    suspect: str


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
    """A page taken apart."""

    blocks: list[Block] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)


class _Walk:
    """The state of the walk: open containers, and the text of the block being read."""

    def __init__(self) -> None:
        self.page = Page()
        self.open: list[int] = []
        self.pieces: list[str] = []
        self.link_chars = 0
        self.in_link = 0
        self.in_pre = 0

    def enter(self, tag: str, suspect: str) -> None:
        self.flush()
        parent = self.open[-1] if self.open else -1
        self.open.append(len(self.page.containers))
        self.page.containers.append(Container(parent, tag, suspect))

    def leave(self, tag: str) -> None:
        if tag in BLOCK_TAGS:
            self.flush()
            self.open.pop()
        elif tag == "a":
            self.in_link -= 1
        if tag == "pre":
            self.in_pre -= 1

    def text(self, text: str) -> None:
        self.pieces.append(text)
        if self.in_link:
            self.link_chars += len(text.strip())

    def flush(self) -> None:
        if not self.pieces:
            return
        raw = "".join(self.pieces)
        text = _collapse_pre(raw) if self.in_pre else _collapse(raw)
        if text:
            tag = self.page.containers[self.open[-1]].tag
            self.page.blocks.append(Block(tag, text, min(self.link_chars, len(text)), self.open[-1]))
        self.pieces = []
        self.link_chars = 0


def read_blocks(tree: LexborHTMLParser, landmarks: bool) -> Page:
    """Takes a parsed page apart; the tree is changed: what is never text is removed from it.

    Args:
        tree: The parsed page.
        landmarks: Whether to read navigation, footers and the like too.
    """
    walk = _Walk()
    if tree.body is None:
        return walk.page
    tree.strip_tags(INVISIBLE if landmarks else INVISIBLE + SURROUNDING)
    walk.enter("body", "")
    stack = [("body", tree.body.iter(include_text=True))]
    while stack:
        tag, children = stack[-1]
        node = next(children, None)
        if node is None:
            stack.pop()
            walk.leave(tag)
        elif node.is_text_node:
            walk.text(node.text_content or "")
        elif _visit(walk, node, node.tag or ""):
            stack.append((node.tag or "", node.iter(include_text=True)))
    return walk.page


def _visit(walk: _Walk, node: LexborNode, tag: str) -> bool:
    """Takes in one element; False if there is nothing in it to read (then it was not entered either)."""
    if tag in _PLAIN:
        walk.in_link += tag == "a"
        return True
    if tag == "br":
        walk.pieces.append(_BREAK)
        return False
    attributes = node.attributes
    if attributes and _is_hidden(attributes):
        return False
    if tag in BLOCK_TAGS:
        walk.enter(tag, _suspicion(attributes) if attributes and tag not in _KEPT_WHOLE else "")
        walk.in_pre += tag == "pre"
        return True
    return not (attributes and names_boilerplate(_names(attributes)))


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style")
    return style is not None and is_hidden(style)


def _names(attributes: dict[str, str | None]) -> str:
    return f"{attributes.get('class') or ''} {attributes.get('id') or ''}"


def _suspicion(attributes: dict[str, str | None]) -> str:
    role = attributes.get("role")
    if role in SURROUNDING_ROLES:
        return f"role={role}"
    names = _names(attributes)
    return names if names_boilerplate(names) else ""


def _collapse(raw: str) -> str:
    """Whitespace as a browser shows it; forced line breaks become newlines."""
    if _BREAK not in raw:
        return " ".join(raw.split())
    lines = (" ".join(line.split()) for line in raw.split(_BREAK))
    return "\n".join(line for line in lines if line)


def _collapse_pre(raw: str) -> str:
    lines = raw.replace(_BREAK, "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
