"""The DAGs that every engine of the bench runs, as the steps that each step reads from, producers first."""

from __future__ import annotations

NUM_STEPS = 50
SMALL = 2


def chain(num_steps: int) -> dict[str, list[str]]:
    """One step after the other."""
    return {f"s{number}": [f"s{number - 1}"] if number else [] for number in range(num_steps)}


def wide() -> dict[str, list[str]]:
    """Two chains of 23 steps side by side between a first step and three last ones: 50 steps."""
    dag: dict[str, list[str]] = {"s0": []}
    for side in "ab":
        dag |= {f"{side}{number}": [f"{side}{number - 1}" if number else "s0"] for number in range(23)}
    return {**dag, "join": ["a22", "b22"], "s1": ["join"], "s2": ["s1"]}


SHAPES = {"small": chain(SMALL), "chain": chain(NUM_STEPS), "wide": wide()}
