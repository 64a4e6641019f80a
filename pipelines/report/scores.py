"""The score tables: the same rows in the terminal at the end of a run, in the report and in the run's MLflow note.

That of the recipe `chat` is made here of what `evaluate` measured; other steps leave theirs in `tables.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.score_table import FILE_NAME, ScoreTable

HEADER = ["stage", "val bpb", "reply loss", "reward (held-out)", "win rate", "KL", "distinct-2"]
STAGES = ("base", "sft", "ppo")
MISSING = "-"

Scores = Mapping[str, Mapping[str, Any]]


def score_table(scores: Scores) -> list[list[str]]:
    """The table of base, SFT and PPO, with the reward model's accuracy and the byte models below.

    Args:
        scores: `scores.json` of the evaluate step. Win rate and KL (nats per reply) are against SFT.

    Returns:
        The header and one row a stage; a value that was not measured is "-".
    """
    rows = [HEADER]
    rows += [_stage_row(stage, scores[stage]) for stage in STAGES if stage in scores]
    if "reward" in scores:
        reward = scores["reward"]
        text = f"accuracy {with_error(reward.get('accuracy'), reward.get('error'))} on {reward.get('pairs', 0)} pairs"
        rows.append(["reward", MISSING, MISSING, text, MISSING, MISSING, MISSING])
    for name, bits in scores.get("baselines", {}).items():
        if not name.endswith("_bytes"):
            rows.append([name, number(bits, 3), *[MISSING] * (len(HEADER) - 2)])
    return rows


def tables_of(folder: Path) -> Iterator[ScoreTable]:
    """The tables that a step left in its artifact, the result first; none where it measured nothing."""
    path = folder / FILE_NAME
    for values in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
        rows = tuple(tuple(row) for row in values["rows"])
        yield ScoreTable(values["title"], tuple(values["header"]), rows, values["note"])


def with_error(value: float | None, error: float | None) -> str:
    """A value and its standard error: "0.35 +- 0.03"."""
    if value is None or error is None:
        return number(value)
    return f"{value:.2f} +- {error:.2f}"


def number(value: float | None, digits: int = 2) -> str:
    """A value with a fixed number of decimals, or "-"."""
    return MISSING if value is None else f"{value:.{digits}f}"


def _stage_row(stage: str, values: Mapping[str, Any]) -> list[str]:
    itself = stage == "sft"  # what the others are compared with
    return [
        stage,
        number(values.get("bpb"), 3),
        number(values.get("reply_loss"), 3),
        with_error(values.get("score"), values.get("score_error")),
        number(values.get("win_rate", 0.5 if itself else None)),
        number(values.get("kl_k1", 0.0 if itself else None)),
        number(values.get("distinct_2")),
    ]
