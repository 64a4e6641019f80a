"""The DAG as a picture: Mermaid for documents that render it, an SVG of our own for those that do not, and plain text.

Pipelines are long and narrow, so the picture is a column: steps from top to bottom in the order of the plan, and on the
right an arc from each step to every step that reads from it. Producers come first, so every arc leads down, and no arc
crosses a box however long the pipeline gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {
    "done": "#2e7d32",
    "cached": "#1565c0",
    "runs": "#ef6c00",
    "running": "#ef6c00",
    "retrying": "#ef6c00",
    "failed": "#c62828",
    "stopped": "#6a1b9a",
}
_IDLE = "#757575"
LEFT_OUT = "left out"
"""State of a step that has none: it takes no part."""
_WIDTH, _HEIGHT, _GAP, _MARGIN = 260, 28, 8, 8


def mermaid(producers: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> str:
    """The DAG as Mermaid text.

    Args:
        producers: Steps in the order of the plan, each with the steps it reads from.
        states: State of each step.
    """
    lines = ["flowchart LR"]
    lines += [f'  {step}["{step}<br/>{states.get(step, LEFT_OUT)}"]' for step in producers]
    lines += [f"  {source} --> {step}" for step, sources in producers.items() for source in dict.fromkeys(sources)]
    used = sorted({states.get(step, LEFT_OUT) for step in producers})
    for state in used:
        members = ",".join(step for step in producers if states.get(step, LEFT_OUT) == state)
        name = state.replace(" ", "_")
        lines += [
            f"  classDef {name} stroke:{COLOURS.get(state, _IDLE)},stroke-width:2px",
            f"  class {members} {name}",
        ]
    return "\n".join(lines) + "\n"


def text(producers: Mapping[str, Sequence[str]], states: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """The DAG as lines: a step, its state, a few words, and the steps it reads from.

    Args:
        producers: Steps in the order of the plan, each with the steps it reads from.
        states: State of each step.
        notes: A few words on a step.
    """
    rows = [
        (step, states.get(step, LEFT_OUT), notes.get(step, ""), ", ".join(dict.fromkeys(sources)))
        for step, sources in producers.items()
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = []
    for step, state, note, sources in rows:
        cells = f"{step:<{widths[0]}}  {state:<{widths[1]}}  {note:<{widths[2]}}"
        lines.append(f"{cells}  {f'<- {sources}' if sources else ''}".rstrip())
    return "\n".join(lines) + "\n"


def svg(producers: Mapping[str, Sequence[str]], states: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """The DAG as a self-contained SVG.

    Args:
        producers: Steps in the order of the plan, each with the steps it reads from.
        states: State of each step; it chooses the colour.
        notes: A few words under the name of a step, such as how long it took.
    """
    row = {step: number for number, step in enumerate(producers)}
    arcs = [(row[source], row[step]) for step, sources in producers.items() for source in dict.fromkeys(sources)]
    width = 2 * _MARGIN + _WIDTH + max((_reach(start, end) for start, end in arcs), default=0)
    height = 2 * _MARGIN + len(row) * (_HEIGHT + _GAP) - _GAP
    boxes = [_box(number, step, states.get(step, LEFT_OUT), notes.get(step, "")) for step, number in row.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="12" role="img"><title>Steps of the run</title>'
        f"{''.join(_arc(start, end) for start, end in arcs)}{''.join(boxes)}</svg>"
    )


def _top(row: int) -> int:
    return _MARGIN + row * (_HEIGHT + _GAP)


def _reach(start: int, end: int) -> int:
    """How far an arc swings out: further for a longer one, so that arcs lie inside each other."""
    return 20 + 10 * (end - start)


def _arc(start: int, end: int) -> str:
    x, y1, y2 = _MARGIN + _WIDTH, _top(start) + _HEIGHT * 2 // 3, _top(end) + _HEIGHT // 3
    out = x + _reach(start, end) * 4 // 3
    return (
        f'<path d="M{x} {y1} C{out} {y1} {out} {y2} {x + 6} {y2}" fill="none" stroke="#9e9e9e"/>'
        f'<path d="M{x} {y2} l7 -4 v8 z" fill="#9e9e9e"/>'
    )


def _box(row: int, step: str, state: str, note: str) -> str:
    y, colour = _top(row), COLOURS.get(state, _IDLE)
    return (
        f'<rect x="{_MARGIN}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="{colour}" '
        f'stroke-width="2"/><text x="{_MARGIN + 10}" y="{y + 18}" font-weight="bold">{escape(step)}</text>'
        f'<text x="{_MARGIN + _WIDTH - 10}" y="{y + 18}" text-anchor="end" fill="{colour}">'
        f"{escape(f'{state} {note}'.strip())}</text>"
    )
