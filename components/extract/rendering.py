"""The chosen blocks of a page as text: plain lines, or light Markdown.

Plain is a line per heading, paragraph, list item and table row, with code as it stands: what later steps count lines
of, and what a conversation looks like. Markdown marks headings, list items, tables and code, for corpora that are to
teach it. Both keep the indentation of code and the cells of a row together.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.extract.blocks import HEADINGS, Page

_CELLS = frozenset(("td", "th"))
_LISTS = frozenset(("ul", "ol", "menu", "dir"))
_MAX_TERM_CHARS = 40


def render(page: Page, kept: Sequence[int], form: str = "plain") -> str:
    """The text of a page.

    Args:
        page: The page taken apart.
        kept: Indices of its blocks that are text.
        form: "plain" or "markdown".
    """
    if form == "markdown":
        return _markdown(page, kept)
    lines: list[str] = []
    last: tuple[str, int] = ("", -1)
    for i in kept:
        text, tag, parent = page.texts[i], page.tags[i], page.parents[page.places[i]]
        if tag in _CELLS and last[0] in _CELLS and last[1] == parent:
            lines[-1] += f" | {text}"
        elif tag == "dd" and last == ("dt", parent) and len(lines[-1]) <= _MAX_TERM_CHARS:
            lines[-1] += ("" if lines[-1].endswith((":", "\uff1a")) else ":") + f" {text}"
        else:
            lines.append(text)
        last = (tag, parent)
    return "\n".join(lines)


def _markdown(page: Page, kept: Sequence[int]) -> str:
    """Paragraphs, headings, lists, tables and code, a blank line between what is not of one list or table."""
    parts: list[str] = []
    last_kind = ""
    last_row = last_item = -1
    for i in kept:
        text, item, row = page.texts[i], _item(page, i), page.parents[page.places[i]]
        kind = _kind(page.tags[i], item)
        if kind == "row" and last_kind == "row" and row == last_row:
            parts[-1] += f" | {_one_line(text)}"
            continue
        if kind == "item" and last_kind == "item" and item == last_item:
            parts.append("\n  " + text.replace("\n", "\n  "))  # a further paragraph of one item
            continue
        if parts:
            parts.append("\n" if kind == last_kind and kind in ("row", "item") else "\n\n")
        parts.append(_marked(page, i, kind))
        last_kind, last_row, last_item = kind, row, item
    return "".join(parts)


def _kind(tag: str, item: int) -> str:
    if tag in HEADINGS:
        return "heading"
    if tag == "pre":
        return "code"
    if tag in _CELLS:
        return "row"
    return "item" if item >= 0 else "text"


def _item(page: Page, block: int) -> int:
    """The list item that a block stands in, -1 if in none."""
    index = page.places[block]
    while index >= 0:
        element = page.elements[index]
        if element == "li":
            return index
        if element not in ("p", "div", "section"):
            return -1
        index = page.parents[index]
    return -1


def _marked(page: Page, block: int, kind: str) -> str:
    text = page.texts[block]
    if kind == "heading":
        return f"{'#' * int(page.tags[block][1])} {_one_line(text)}"
    if kind == "code":
        fence = "```" if "```" not in text else "~~~~"
        return f"{fence}\n{text}\n{fence}"
    if kind == "row":
        return _one_line(text)
    if kind == "item":
        indent = "  " * (_depth(page, block) - 1)
        return f"{indent}- " + text.replace("\n", f"\n{indent}  ")
    return text


def _depth(page: Page, block: int) -> int:
    """How many lists a block stands in."""
    depth, index = 0, page.places[block]
    while index >= 0:
        depth += page.elements[index] in _LISTS
        index = page.parents[index]
    return max(depth, 1)


def _one_line(text: str) -> str:
    return text.replace("\n", " ")
