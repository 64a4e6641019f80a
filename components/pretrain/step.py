"""The pretraining step: launches the ranks, hands each the paths and seeds, returns what rank 0 measured.

What is learned is `pretrain.objective`: the next token, masked words or gaps; each is a `Task` of its own.

The artifact: `model/` (a Hugging Face folder), `curve.json` (one row per evaluation), `samples.json` (what the model
writes at the end), `quarantine.jsonl` (batches that were left out, if any were), `order.json` (what the order of the
rows depends on, see `components.shards.schedule`, and the number of steps), `deepspeed.json` (the settings that the
engine held, if it was DeepSpeed's). Checkpoints live in the step's scratch: a killed run continues from the newest
whole one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.context import Context, Metrics
from components.errors import StepError
from components.pretrain.config import PretrainConfig

VERSION = 2


def pretrain(
    ctx: Context,
    config: PretrainConfig,
    tokens: Path,
    tokenizer: Path,
    rows: Path | None = None,
    start: Path | None = None,
) -> Metrics:
    """Trains a language model, from scratch or on from where another training ended.

    Args:
        ctx: The step's context.
        config: The step's settings.
        tokens: Tokens artifact, with `train` and `val`.
        tokenizer: Tokenizer artifact the tokens were made with; travels with the model.
        rows: Pack artifact made of the tokens; without one, all documents are joined and cut every `length` tokens.
        start: Model folder to go on from; the same as `config.init`, as an input.

    Returns:
        val_bpb (bits per byte of the validation split; for other objectives than the next token val_loss, nats per
        hidden token, and for masked words val_accuracy), train_loss (nats per token since the second last evaluation),
        steps, skipped, goodput, tokens, epochs, tokens_per_second (all ranks together), parameters.

    Raises:
        StepError: If a token shard is not as it was written, the tokenizer lacks masks, a split has too few tokens, or
            too many steps had a gradient that is not finite, or the tokenizer is not that of the tokens or of the model
            to go on from.
        MachineError: If the device lacks the memory or the precision; known before any rank starts.
        Preempted: If the run was asked to stop; a checkpoint is saved.
    """
    from components.pretrain.checks import check_start
    from components.pretrain.job import Job, run_rank
    from components.pretrain.origin import check_origin
    from components.shards.verify import check_tokens

    seeds = {name: ctx.seed(name) for name in ("weights", "rows", "samples", "hidden", "dropout")}
    check_tokens(tokens, config.verify == "full", ("train", "val"))
    start = start or (Path(config.init) if config.init else None)
    check_start(ctx, config, tokens, tokenizer, rows, start)
    _check_masks(config, tokenizer)
    if config.resume and start is not None:
        check_origin(start, config, seeds)
    job = Job(config, tokens, tokenizer, rows, ctx.output, ctx.scratch, seeds, start)
    ranks = config.training.ranks
    going_on = "; going on from a model, whose shape is kept: pretrain.model is not used" if start else ""
    ctx.progress(0, config.training.steps, "steps", f"starting {ranks} rank{'s' if ranks > 1 else ''}{going_on}")
    return cast(Metrics, ctx.launch(partial(run_rank, job), ranks, config.training.allowed_ranks()))


def _check_masks(config: PretrainConfig, tokenizer: Path) -> None:
    if not config.num_masks:
        return
    from components.tokenizer.load import TextTokenizer

    found = TextTokenizer.from_folder(tokenizer).num_masks
    if found < config.num_masks:
        raise StepError(
            f"The tokenizer has {found} masks, the objective {config.objective} hides with {config.num_masks}.",
            where=f"{tokenizer}, pretrain.objective={config.objective}",
            fix=f"train a tokenizer with tokenizer.masks={config.num_masks}",
        )
