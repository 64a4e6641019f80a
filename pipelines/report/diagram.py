"""The DAG as a picture: Mermaid text for documents that render it, and an SVG of our own for those that do not.

Layers are the longest way from a source, so every arrow points right; within a layer steps keep the order of the plan,
moved towards the steps they read from. Nothing is measured: text has a fixed width in a monospaced font.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {
    "done": "#2e7d32",
    "cached": "#1565c0",
    "running": "#ef6c00",
    "retrying": "#ef6c00",
    "failed": "#c62828",
    "stopped": "#6a1b9a",
}
_IDLE = "#757575"
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 132, 44, 44, 16, 8


def mermaid(producers: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> str:
    """The DAG as Mermaid text.

    Args:
        producers: Steps in the order of the plan, each with the steps it reads from.
        states: State of each step.
    """
    lines = ["flowchart LR"]
    lines += [f'  {step}["{step}<br/>{states.get(step, "waiting")}"]' for step in producers]
    lines += [f"  {source} --> {step}" for step, sources in producers.items() for source in dict.fromkeys(sources)]
    used = sorted({states.get(step, "waiting") for step in producers})
    for state in used:
        members = ",".join(step for step in producers if states.get(step, "waiting") == state)
        lines += [
            f"  classDef {state} stroke:{COLOURS.get(state, _IDLE)},stroke-width:2px",
            f"  class {members} {state}",
        ]
    return "\n".join(lines) + "\n"


def layers_of(producers: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Steps by their longest distance from a source; producers come before their readers in the mapping."""
    depth: dict[str, int] = {}
    for step, sources in producers.items():
        depth[step] = 1 + max((depth[source] for source in sources), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for step, column in depth.items():
        layers[column].append(step)
    row: dict[str, float] = {}
    for layer in layers:
        layer.sort(key=lambda step: _mean([row[source] for source in producers[step]]))
        row |= {step: float(number) for number, step in enumerate(layer)}
    return layers


def svg(producers: Mapping[str, Sequence[str]], states: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """The DAG as a self-contained SVG.

    Args:
        producers: Steps in the order of the plan, each with the steps it reads from.
        states: State of each step; it chooses the colour.
        notes: A few words under the name of a step, such as how long it took.
    """
    layers = layers_of(producers)
    places = {
        step: (_MARGIN + column * (_WIDTH + _GAP_X), _MARGIN + row * (_HEIGHT + _GAP_Y))
        for column, layer in enumerate(layers)
        for row, step in enumerate(layer)
    }
    width = 2 * _MARGIN + len(layers) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + max(map(len, layers), default=1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    arrows = [
        _arrow(places[source], places[step]) for step, sources in producers.items() for source in dict.fromkeys(sources)
    ]
    boxes = [_box(places[step], step, states.get(step, "waiting"), notes.get(step, "")) for step in producers]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="12" role="img"><title>Steps of the run</title>'
        f"{''.join(arrows)}{''.join(boxes)}</svg>"
    )


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = x1 + _GAP_X // 2
    curve = f"M{x1} {y1} C{bend} {y1} {x2 - _GAP_X // 2} {y2} {x2} {y2}"
    return f'<path d="{curve}" fill="none" stroke="#9e9e9e"/><circle cx="{x2}" cy="{y2}" r="3" fill="#9e9e9e"/>'


def _box(place: tuple[int, int], step: str, state: str, note: str) -> str:
    x, y = place
    colour = COLOURS.get(state, _IDLE)
    small = escape(f"{state} {note}".strip())[:22]
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="{colour}" '
        f'stroke-width="2"/><text x="{x + 10}" y="{y + 18}" font-weight="bold">{escape(step)}</text>'
        f'<text x="{x + 10}" y="{y + 34}" fill="{colour}">{small}</text>'
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
