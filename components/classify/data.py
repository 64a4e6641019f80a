"""Labelled texts as token ids, and as batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.errors import StepError
from components.labelled.step import LABELS
from components.labelled.table import read_labelled
from components.model.loss import IGNORED
from components.objectives.pairs import PADDING
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS, PAD

CLASSIFIER = "classifier.json"


@dataclass(frozen=True)
class Example:
    """One text.

    Attributes:
        id: Of its row.
        ids: `BOS` (which the classifier reads), the text, `EOS`: as in pretraining.
        label: Number of its label.
    """

    id: str
    ids: list[int]
    label: int


def read_examples(
    path: Path, labels: Sequence[str], tokenizer: TextTokenizer, max_length: int, limit: int | None = None
) -> list[Example]:
    """Reads and encodes the texts of a table.

    Raises:
        StepError: If the table cannot be read, or has a label that is none of `labels`.
    """
    rows = read_labelled(path, limit)
    numbers = {label: number for number, label in enumerate(labels)}
    if unknown := sorted({row.label for row in rows} - numbers.keys()):
        raise StepError(
            f"The label {unknown[0]} is none that the classifier knows: {', '.join(labels)}.",
            where=str(path),
            fix="evaluate a classifier on the texts it was made for",
        )
    encoded = tokenizer.encode_batch([row.text for row in rows])
    return [
        Example(row.id, [BOS, *ids[: max_length - 2], EOS], numbers[row.label])
        for ids, row in zip(encoded, rows, strict=True)
    ]


def read_classifier(folder: Path) -> tuple[list[str], int]:
    """The labels of a classify artifact, in the order of its outputs, and how many tokens of a text it reads."""
    values = json.loads((folder / CLASSIFIER).read_text(encoding="utf-8"))
    return list(values["labels"]), int(values["max_length"])


def read_labels(folder: Path) -> list[str]:
    """The labels of a labelled artifact, in the order of the classifier's outputs."""
    labels: list[str] = json.loads((folder / LABELS).read_text(encoding="utf-8"))
    return labels


def lay_out(examples: Sequence[Example], most: int) -> dict[str, Tensor]:
    """Pads texts on the right to the longest one's length.

    Args:
        examples: At most `most` texts; what is missing is filled with rows that count for nothing.
        most: Rows of the batch.

    Returns:
        tokens_BT, segments_BT (`PADDING` for padding, else 0) and labels_B (`IGNORED` for a row that fills up).
    """
    rows = [example.ids for example in examples] + [[BOS, EOS]] * (most - len(examples))
    width = max(map(len, rows))
    tokens_BT = torch.full((most, width), PAD)
    segments_BT = torch.full((most, width), PADDING)
    for index, row in enumerate(rows):
        tokens_BT[index, : len(row)] = torch.tensor(row)
        segments_BT[index, : len(row)] = 0
    labels = [example.label for example in examples] + [IGNORED] * (most - len(examples))
    return {"tokens_BT": tokens_BT, "segments_BT": segments_BT, "labels_B": torch.tensor(labels)}
