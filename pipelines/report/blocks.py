"""What a report is made of, and its two forms: HTML and Markdown out of the same blocks.

Every text that comes from a run (documents, replies, commands, errors) passes through one escaping place a form, so
nothing a crawled page or a model wrote can become markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text to be kept as it is: a command, an error."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An SVG made by us, with what Markdown shows in its place: another text form, or nothing."""

    svg: str
    markdown: str = ""


Block: TypeAlias = Heading | Paragraph | Code | Table | Picture

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]#|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
_SHORT = 20
"""Characters of a table's cell that is never broken into lines."""
_STYLE = """
body { font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       color: #212121; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid #e0e0e0; }
table { border-collapse: collapse; margin: .5rem 0; } th, td { text-align: left; vertical-align: top;
       padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #eee; white-space: pre-wrap; overflow-wrap: break-word; }
.short { white-space: pre; }
th { color: #555; font-weight: 600; } pre { background: #f5f5f5; padding: .6rem; white-space: pre-wrap; }
.picture { overflow-x: auto; display: inline-block; max-width: 100%; margin-right: 1rem; }
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """A self-contained page: no script, nothing loaded from elsewhere."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same as Markdown; pictures appear as their text form."""
    parts = [f"# {_plain(title)}", *(_markdown(block) for block in blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Code(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(svg):
            return f'<div class="picture">{svg}</div>'
        case Table(header, rows):
            head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
            lines = ["".join(map(_cell, row)) for row in rows]
            return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(text: str) -> str:
    """One that a name or a number fills stays on its line beside one that holds sentences."""
    short = ' class="short"' if len(text) <= _SHORT else ""
    return f"<td{short}>{escape(text)}</td>"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Code(text):
            fence = "`" * (1 + max(3, _longest_ticks(text)))
            return f"{fence}\n{text}\n{fence}"
        case Picture(_, markdown):
            return markdown
        case Table(header, rows):
            lines = [header, ["---"] * len(header), *rows]
            return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.split()).translate(_MARKS)


def _longest_ticks(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
