"""The preferences step: pairs that the reward model learns from, and prompts that PPO answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.context import Context, Metrics
from components.preferences.config import PreferencesConfig

if TYPE_CHECKING:
    from components.preferences.dataset import Dataset

VERSION = 1


def preferences(ctx: Context, config: PreferencesConfig, file: Path | None = None) -> Metrics:
    """Writes `train.arrow`, `held_out.arrow`, `prompts_train.arrow` and `prompts_held_out.arrow`.

    Args:
        ctx: The step's context.
        config: The step's settings.
        file: JSON lines with "prompt", "chosen" and "rejected"; None takes the sample's ratings and labels.

    Returns:
        pairs_train, pairs_held_out, prompts_train, prompts_held_out, repeated (pairs of the file left out as
        repetitions), longer_chosen (share of training pairs whose chosen side is the longer one, equal ones counting
        half: 0.5 means that length gives nothing away), and the training pairs of each source.

    Raises:
        StepError: If a row of the file cannot be used; names file, line and side.
        MachineError: If the sample's packages are not installed.
    """
    from components.posttrain.dialogues import write_preferences, write_prompts
    from components.preferences.dataset import sample_dataset
    from components.preferences.files import file_dataset

    ctx.progress(0, None, "pairs", "reading")
    dataset, repeated = (sample_dataset(config), 0) if file is None else file_dataset(file, config.held_out_fraction)
    write_preferences(ctx.output / "train.arrow", dataset.train)
    write_preferences(ctx.output / "held_out.arrow", dataset.held_out)
    write_prompts(ctx.output / "prompts_train.arrow", dataset.prompts_train)
    write_prompts(ctx.output / "prompts_held_out.arrow", dataset.prompts_held_out)
    count = len(dataset.train) + len(dataset.held_out)
    ctx.progress(count, count, "pairs", f"{len(dataset.held_out)} held out")
    return {**_metrics(dataset), "repeated": float(repeated)}


def _metrics(dataset: Dataset) -> Metrics:
    sides = [(len(pair.chosen), len(pair.rejected)) for pair in dataset.train]
    longer = sum(1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in sides)
    sources = Counter(pair.source for pair in dataset.train).most_common(6)
    return {
        "pairs_train": float(len(dataset.train)),
        "pairs_held_out": float(len(dataset.held_out)),
        "prompts_train": float(len(dataset.prompts_train)),
        "prompts_held_out": float(len(dataset.prompts_held_out)),
        "longer_chosen": longer / len(sides),
        **{f"pairs_{source}": float(count) for source, count in sources},
    }
