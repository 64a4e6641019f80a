"""Labelled texts: their rows, where they come from, and how they are split and written.

A text is held out or not by its own hash, so that no text is on both sides. One that stands under two labels says
nothing and is left out with both. Of the texts that are not held out a share is for validation: settings are chosen by
it, and what is held out stays unread until the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.instructions.files import content_id, held_out_ids
from components.labelled.config import LabelledConfig
from components.posttrain.dialogues import hash_order, write_hashed
from components.posttrain.jsonl import read_lines
from components.posttrain.prompts import read_table
from components.sample.texts import held_out, reviews

LABELLED = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])


@dataclass(frozen=True)
class Labelled:
    """One text with its label."""

    id: str
    text: str
    label: str


@dataclass(frozen=True)
class Split:
    """Texts to learn from, to score on the way and at the end; numbers left out as repeated and as told both ways."""

    train: list[Labelled]
    validation: list[Labelled]
    held_out: list[Labelled]
    repeated: int = 0
    contradicted: int = 0


def sample_split(config: LabelledConfig) -> Split:
    """Chinese customer reviews, positive or negative; those held out are on no page of the sample website.

    Raises:
        MachineError: If the sample's packages are not installed.
    """
    rows = [Labelled(review.id, review.text, "positive" if review.positive else "negative") for review in reviews()]
    shown = [row for row in rows if not held_out(row.id)]
    return Split(*_dealt(shown, config), [row for row in rows if held_out(row.id)])


def file_split(path: Path, config: LabelledConfig) -> Split:
    """The rows of a file: JSON lines of `{"text": text, "label": text}`.

    Raises:
        StepError: At the first row that cannot be used, with file and line.
    """
    labels: dict[str, set[str]] = {}
    count = 0
    for line in read_lines(path):
        count += 1
        labels.setdefault(line.text("text").strip(), set()).add(_label(line.row.get("label")) or line.text("label"))
    rows = [Labelled(content_id(text), text, next(iter(found))) for text, found in labels.items() if len(found) == 1]
    held = held_out_ids([row.id for row in rows], config.held_out_fraction)
    shown = [row for row in rows if row.id not in held]
    held_rows = [row for row in rows if row.id in held]
    return Split(*_dealt(shown, config), held_rows, count - len(labels), len(labels) - len(rows))


def _label(value: object) -> str | None:
    """A label that is a number, as exports write them, in words; None for anything else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _dealt(rows: list[Labelled], config: LabelledConfig) -> tuple[list[Labelled], list[Labelled]]:
    """Texts to learn from, and before them in the order of their hashes those of validation: at least one."""
    ordered = sorted(rows, key=lambda row: hash_order(row.id))
    count = max(1, round(config.validation_fraction * len(ordered)))
    return ordered[count:][: config.max_train], ordered[:count]


def write_labelled(path: Path, rows: Iterable[Labelled]) -> None:
    """Writes a table, in the order of a hash: any first part of it is a fair sample."""
    write_hashed(path, rows, LABELLED)


def read_labelled(path: Path, limit: int | None = None) -> list[Labelled]:
    """The rows of a table, or its first ones.

    Raises:
        StepError: If the file is not there or is damaged.
    """
    return [Labelled(str(row["id"]), str(row["text"]), str(row["label"])) for row in read_table(path)[:limit]]
