"""The reward model as a step: pairs of replies go in, a model that scores replies comes out.

    model/            LlamaForSequenceClassification with one label as a Hugging Face folder, and reward.json: mean and
                      standard deviation of its scores on its own training data, the unit that PPO pays in
    curve.json        held-out accuracy and loss before the first step, at every evaluation and at the end
    quarantine.jsonl  batches that were left out, if any were
    deepspeed.json    settings that the engine held, if it was DeepSpeed's

It starts from the fine-tuned model, with a scalar head on the last token of the conversation.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.reward.config import RewardConfig

VERSION = 1


def reward(ctx: Context, config: RewardConfig, base: Path, preferences: Path) -> Metrics:
    """Trains a model to tell which of two replies people prefer.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        base: Artifact whose `model` folder is where training starts: the fine-tuned model.
        preferences: Artifact with `train.arrow` and `held_out.arrow`.

    Returns:
        accuracy on held-out pairs with its standard_error, and loss (nats per pair) there; accuracy_<source> of the
        three sources with most held-out pairs; train_loss, steps, skipped, pairs, dropped (too long) and
        tokens_per_second (all ranks together).

    Raises:
        StepError: An input cannot be used, a pair misses a side, or no pair fits.
        Preempted: The run was asked to stop; a checkpoint is saved.
    """
    from components.reward.worker import Job, run_rank
    from components.training.room import check_folder

    seeds = {name: ctx.seed(name) for name in ("pairs", "head")}
    job = Job(config, base / "model", preferences, ctx.output, ctx.scratch, seeds)
    check_folder(base / "model", config.training, config.max_length, ctx.device(), "reward.training")
    ranks = config.training.ranks
    ctx.progress(0, config.training.steps, "steps", f"starting {ranks} rank{'s' if ranks > 1 else ''}")
    return cast(Metrics, ctx.launch(partial(run_rank, job), ranks, config.training.allowed_ranks()))
