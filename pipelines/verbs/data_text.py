"""How the `data` verbs print: columns that line up, numbers with separators, and text of pages made harmless.

A page may hold anything, also the control sequences that move a terminal's cursor; nothing but printable characters of
it reaches the screen.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence


def harmless(text: str, limit: int | None = None) -> str:
    """A text on one line, its unprintable characters replaced; cut after some characters if a limit is given."""
    line = " ".join(text.split())
    if limit is not None and len(line) > limit:
        line = line[:limit].rstrip() + " ..."
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def paragraph(text: str, limit: int) -> list[str]:
    """The beginning of a text, line by line, made harmless."""
    cut = text[:limit].rstrip() + (" ..." if len(text) > limit else "")
    return [harmless(line) for line in cut.split("\n")]


def number(value: float) -> str:
    """A number for a reader: 1,234 or 0.1234."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; empty where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def aligned(rows: Sequence[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Rows of text in columns: numbers to the right, all else to the left. The first row is the header."""
    widths = [max(_columns(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    right = [all(row[place][:1].isdigit() or not row[place] for row in rows[1:]) for place in range(len(widths))]
    for row in rows:
        cells = [
            " " * (width - _columns(cell)) + cell if to_right else cell + " " * (width - _columns(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield (indent + "  ".join(cells)).rstrip()


def as_json(value: object) -> str:
    """One line of JSON for programs."""
    return json.dumps(value, ensure_ascii=False)


def _columns(text: str) -> int:
    """Columns a text takes on a screen: a hanzi takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
