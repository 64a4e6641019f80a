"""How sure a score is: standard errors of means, and the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of independent values: s / sqrt(n); NaN below two values."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def wilson_interval(share: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a share (Wilson 1927); stays within 0 and 1 and works for few trials.

    Args:
        share: Observed share of successes; a tie may count as half a success.
        trials: Number of trials, at least 1.
        z: Width in standard deviations; 1.96 covers 95 %.

    Returns:
        Lower and upper bound.
    """
    spread = z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / trials / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def win_rate(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Share of pairs in which ours scores higher; a tie counts half. NaN of nothing."""
    points = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(ours, theirs, strict=True)]
    return mean(points)
