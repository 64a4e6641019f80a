"""Training an encoder-decoder on pairs as a step: sources and targets go in, a model that writes targets comes out.

The artifact:
    model/            a Hugging Face folder (MarianMTModel with the default shape), the tokenizer beside it
    curve.json        loss of held-out pairs at every evaluation
    quarantine.jsonl  batches that were left out, if any were
    deepspeed.json    settings that the engine held, if it was DeepSpeed's
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.translate.config import TranslateConfig

VERSION = 1


def translate(ctx: Context, config: TranslateConfig, pairs: Path, tokenizer: Path) -> Metrics:
    """Trains an encoder-decoder from scratch.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        pairs: Artifact with `train.arrow` and `held_out.arrow`.
        tokenizer: Tokenizer artifact; travels with the model.

    Returns:
        val_loss (nats per target token of held-out pairs), train_loss, steps, skipped, pairs, dropped (pairs too long
        for the model), epochs, tokens_per_second (all ranks together) and parameters.

    Raises:
        StepError: An input cannot be used, or no pair is short enough.
        Preempted: The run was asked to stop; a checkpoint is saved.
    """
    from components.translate.worker import Job, run_rank

    seeds = {name: ctx.seed(name) for name in ("weights", "pairs", "dropout")}
    job = Job(config, pairs, tokenizer, ctx.output, ctx.scratch, seeds)
    ranks = config.training.ranks
    ctx.progress(0, config.training.steps, "steps", f"starting {ranks} rank{'s' if ranks > 1 else ''}")
    return cast(Metrics, ctx.launch(partial(run_rank, job), ranks, config.training.allowed_ranks()))
