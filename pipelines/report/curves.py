"""Curves as small inline SVG: one line a series, both axes labelled with round numbers, no script and no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 26, 34
_COLOURS = ("#1565c0", "#c62828", "#2e7d32", "#ef6c00")
MAX_POINTS = 400

Series = Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, series: Mapping[str, Series]) -> str:
    """Draws series over one axis.

    Args:
        title: Shown above the chart.
        x_label: What the horizontal axis counts.
        series: Points (x, y) by name, in the order of x; points that are not finite are left out.

    Returns:
        An SVG element; an empty text if no series has a point.
    """
    finite = {name: [point for point in points if math.isfinite(point[1])] for name, points in series.items()}
    drawn = {name: thinned(points) for name, points in finite.items() if points}
    if not drawn:
        return ""
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x_ticks, y_ticks = ticks(min(xs), max(xs), 5), ticks(min(ys), max(ys), 5)
    x_low, x_high = min(*xs, x_ticks[0]), max(*xs, x_ticks[-1])
    y_low, y_high = min(*ys, y_ticks[0]), max(*ys, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(place(x_low, tick)[1], f"{tick:g}") for tick in y_ticks]
    parts += [_mark(place(tick, y_low)[0], f"{tick:g}") for tick in x_ticks]
    for number, (name, points) in enumerate(drawn.items()):
        parts.append(_line([place(x, y) for x, y in points], _COLOURS[number % len(_COLOURS)]))
        parts.append(_legend(number, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11" role="img"><title>{escape(title)}</title>'
        f'<text x="{_LEFT}" y="14" font-weight="bold">{escape(title)}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end" fill="#555">{escape(x_label)}</text>'
        f"{''.join(parts)}</svg>"
    )


def thinned(points: Series) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points, evenly taken, the last one always among them."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return [point for index, point in enumerate(points) if (len(points) - 1 - index) % stride == 0]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that divide a range: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _grid(y: float, text: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e0e0e0"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{text}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _legend(number: int, name: str) -> str:
    x, y = WIDTH - _RIGHT - 4, _TOP + 12 + 14 * number
    return f'<text x="{x}" y="{y}" text-anchor="end" fill="{_COLOURS[number % len(_COLOURS)]}">{escape(name)}</text>'
