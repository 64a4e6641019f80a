"""The labelled step: texts with a label each, a part of them for validation, another held out.

The artifact:
    train.arrow, validation.arrow, held_out.arrow    texts, see `table`
    labels.json                                      the labels, in the order of the classifier's outputs
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.errors import StepError
from components.labelled.config import LabelledConfig
from components.publish import publish_json

if TYPE_CHECKING:
    from components.labelled.table import Split

VERSION = 2
LABELS = "labels.json"


def labelled(ctx: Context, config: LabelledConfig, file: Path | None = None) -> Metrics:
    """Writes the texts to learn from and to score.

    Args:
        ctx: The step's context.
        config: The step's settings.
        file: JSON lines with "text" and "label"; None takes the sample's reviews.

    Returns:
        texts_train, texts_validation, texts_held_out, labels, repeated and contradicted (texts left out), and the
        training texts of the six most frequent labels.

    Raises:
        StepError: If a row of the file cannot be used (names file and line), or a label has no text to learn from.
        MachineError: If the sample's packages are not installed.
    """
    from components.labelled.table import file_split, sample_split, write_labelled

    ctx.progress(0, None, "texts", "reading")
    split = sample_split(config) if file is None else file_split(file, config)
    counts = Counter(row.label for row in split.train)
    _check(split, counts, "sample" if file is None else str(file))
    parts = {"train": split.train, "validation": split.validation, "held_out": split.held_out}
    for name, rows in parts.items():
        write_labelled(ctx.output / f"{name}.arrow", rows)
    publish_json(ctx.output / LABELS, sorted(counts))
    total = sum(map(len, parts.values()))
    ctx.progress(total, total, "texts", f"{len(split.held_out)} held out")
    return {
        **{f"texts_{name}": float(len(rows)) for name, rows in parts.items()},
        "labels": float(len(counts)),
        "repeated": float(split.repeated),
        "contradicted": float(split.contradicted),
        **{f"texts_{label}": float(count) for label, count in counts.most_common(6)},
    }


def _check(split: Split, counts: Counter[str], where: str) -> None:
    if len(counts) < 2:
        raise StepError(
            f"The texts to learn from have {len(counts)} different labels; a classifier tells at least two apart.",
            where=where,
            fix="add texts with another label",
        )
    unseen = sorted({row.label for row in (*split.validation, *split.held_out)} - counts.keys())
    if unseen:
        raise StepError(
            f"The label {unseen[0]} is on no text to learn from, only on those that are scored.",
            where=where,
            fix=f"add texts with the label {unseen[0]}, or lower the fractions of labelled",
        )
