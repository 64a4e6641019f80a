"""How much of a row is hidden: arithmetic that settings are checked by, without numpy."""

from __future__ import annotations


def num_gaps(length: int, density: float, mean_length: float) -> tuple[int, int]:
    """How many tokens of a row are taken out, and in how many spans.

    Args:
        length: Tokens of the row, at least 2.
        density: Share of them to take out.
        mean_length: Mean length of a span in tokens.
    """
    noise = min(max(1, round(length * density)), length - 1)
    spans = min(max(1, round(noise / mean_length)), noise, length - noise)
    return noise, spans
