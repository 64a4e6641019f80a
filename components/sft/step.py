"""Supervised fine-tuning as a step: a base model and dialogues go in, a model that answers comes out.

    model/            the fine-tuned model as a Hugging Face folder, tokenizer and chat template beside it
    curve.json        held-out loss before the first step, at every evaluation and at the end
    quarantine.jsonl  batches that were left out, if any were
    deepspeed.json    settings that the engine held, if it was DeepSpeed's

The loss counts the assistant's words and the token that ends its turn, nothing else; dialogues are packed into rows
without seeing each other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.sft.config import SftConfig

VERSION = 1


def sft(ctx: Context, config: SftConfig, base: Path, instructions: Path) -> Metrics:
    """Fine-tunes a model on dialogues.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        base: Artifact whose `model` folder is where training starts.
        instructions: Artifact with `train.arrow` and `held_out.arrow`.

    Returns:
        val_loss and base_val_loss (nats per held-out assistant token, after and before), train_loss, steps, skipped,
        examples, dropped (dialogues without a reply that fits), packed (share of slots that hold text), epochs and
        tokens_per_second (all ranks together).

    Raises:
        StepError: An input cannot be used, or no dialogue fits.
        Preempted: The run was asked to stop; a checkpoint is saved.
    """
    from components.sft.worker import Job, run_rank
    from components.training.room import check_folder

    job = Job(config, base / "model", instructions, ctx.output, ctx.scratch, ctx.seed("rows"))
    check_folder(base / "model", config.training, config.max_length, ctx.device(), "sft.training")
    ranks = config.training.ranks
    ctx.progress(0, config.training.steps, "steps", f"starting {ranks} rank{'s' if ranks > 1 else ''}")
    return cast(Metrics, ctx.launch(partial(run_rank, job), ranks, config.training.allowed_ranks()))
