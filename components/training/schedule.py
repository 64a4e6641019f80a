"""The learning rate as a pure function of the step: warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math

from components.training.config import TrainingConfig


def lr_at(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step.

    Args:
        config: Peak rate, warm-up, shape and end of the schedule.
        step: Steps already done, 0 to `config.steps - 1`.

    Returns:
        The rate: (step + 1) / warmup_steps of the peak while warming up, then falling from the peak at the first step
        after the warm-up towards `min_lr_ratio` of it at the last step (cosine: Loshchilov and Hutter 2017).
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * shape)
