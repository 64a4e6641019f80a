"""Weights of a mixture as whole numbers: 0.7 and 0.3 are 7 and 3, so that no rounding error adds up over a run.

Light on purpose: configs read it before anything heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from components.errors import ConfigError

MOST = 1_000_000
"""Largest sum of whole weights: the turns repeat after so many samples, and one round of them is a table."""


def whole_weights(key: str, weights: Mapping[str, str]) -> dict[str, int]:
    """Reads weights and brings them to the smallest whole numbers in the same proportion.

    Args:
        key: Config key, for errors.
        weights: Group to weight, such as "0.7", "2" or "1/3"; they need not add up to 1.

    Returns:
        Group to whole weight, by name; groups of weight 0 are left out.

    Raises:
        ConfigError: If a weight is no number or negative, all are 0, or they are given too finely.
    """
    exact = {name: _read(f"{key}.{name}", text) for name, text in sorted(weights.items())}
    exact = {name: weight for name, weight in exact.items() if weight}
    if not exact:
        raise ConfigError(f"{key} gives no group a weight above 0.", key, f"set {key}={{en: 0.7, zh: 0.3}}")
    scale = math.lcm(*(weight.denominator for weight in exact.values()))
    whole = {name: int(weight * scale) for name, weight in exact.items()}
    shared = math.gcd(*whole.values())
    whole = {name: weight // shared for name, weight in whole.items()}
    if sum(whole.values()) > MOST:
        raise ConfigError(
            f"{key} is too fine: as whole numbers its weights add up to {sum(whole.values())}, above {MOST}.",
            key,
            "give weights of at most 5 decimals",
        )
    return whole


def parse_change(key: str, text: str) -> dict[str, str]:
    """Reads "en=0.5, zh=0.5".

    Raises:
        ConfigError: If it has another form, or names a group twice.
    """
    weights: dict[str, str] = {}
    for part in text.split(","):
        name, separator, weight = (piece.strip() for piece in part.partition("="))
        if not (name and separator and weight) or name in weights:
            raise ConfigError(f'{key}="{text}" is no list of weights.', key, f'set {key}="en=0.5, zh=0.5"')
        weights[name] = weight
    return weights


def _read(key: str, text: str) -> Fraction:
    try:
        weight = Fraction(text)
    except (ValueError, ZeroDivisionError):
        weight = Fraction(-1)
    if weight < 0:
        raise ConfigError(f"{key}={text} is no weight.", key, "give a number of 0 or more, such as 0.5")
    return weight
