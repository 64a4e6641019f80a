"""The learning rate as a pure function of the step: warm-up, then one of five shapes.

A schedule holds no state, so a resumed run needs none: the rate of a step follows from the config and its number.
"""

from __future__ import annotations

import math

from components.training.config import TrainingConfig


def lr_at(config: TrainingConfig, step: int) -> float:
    """Learning rate of a step.

    Args:
        config: Peak rate, warm-up, shape and end of the schedule.
        step: Steps already done, 0 to `config.steps - 1`.

    Returns:
        The rate: (step + 1) / warmup_steps of the peak while warming up, then by `config.schedule`:

        - "constant": the peak.
        - "cosine" (Loshchilov and Hutter 2017) and "linear": from the peak at the first step after the warm-up to
          `min_lr_ratio` of it at the last step.
        - "wsd", warm-up, stable, decay (2404.06395): the peak, and over the last `num_decay_steps` down to
          `min_lr_ratio` of it at the last step, in equal parts or along 1 - sqrt (2405.18392, section 3).
        - "inverse-sqrt" (Vaswani et al. 2017, section 5.3): the peak times sqrt(warmup_steps / (step + 1)).
    """
    warmup = config.warmup_steps
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "inverse-sqrt":
        return config.lr * math.sqrt(max(1, warmup) / (step + 1))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * _height(config, step))


def num_decay_steps(config: TrainingConfig) -> int:
    """Steps of a "wsd" schedule whose rate is below the peak for the decay's sake: at least the last one."""
    return min(config.steps - config.warmup_steps, max(1, round(config.decay_share * config.steps)))


def _height(config: TrainingConfig, step: int) -> float:
    """How far above its end the rate still is, 1 at the peak and 0 at the end."""
    if config.schedule == "wsd":
        decay = num_decay_steps(config)
        progress = max(0, step + 1 - (config.steps - decay)) / decay
        return 1 - (math.sqrt(progress) if config.decay_shape == "1-sqrt" else progress)
    progress = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
