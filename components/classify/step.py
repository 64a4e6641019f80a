"""Fine-tuning an encoder as a step: a pretrained model and labelled texts go in, a classifier comes out.

The artifact:
    model/            BertForSequenceClassification as a Hugging Face folder, the labels' names in its config
    classifier.json   the labels in the order of its outputs, and how many tokens of a text it reads
    curve.json        validation accuracy and loss before the first step, at every evaluation and at the end
    quarantine.jsonl  batches that were left out, if any were
    deepspeed.json    settings that the engine held, if it was DeepSpeed's
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from components.classify.config import ClassifyConfig
from components.context import Context, Metrics

VERSION = 2


def classify(ctx: Context, config: ClassifyConfig, base: Path, labelled: Path) -> Metrics:
    """Fine-tunes a pretrained encoder to label texts.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        base: Artifact whose `model` folder is where training starts: an encoder (pretrain.objective=masked). With
            `config.scratch` its shape and its tokenizer alone are taken.
        labelled: Artifact with `train.arrow`, `validation.arrow` and `labels.json`; its held-out texts are not read.

    Returns:
        val_accuracy and val_loss (nats per text) on validation texts, train_loss, steps, skipped, texts, epochs and
        tokens_per_second (all ranks together).

    Raises:
        StepError: An input cannot be used, or the model is no encoder.
        Preempted: The run was asked to stop; a checkpoint is saved.
    """
    from components.classify.worker import Job, run_rank

    seeds = {name: ctx.seed(name) for name in ("texts", "head", "dropout")}
    job = Job(config, base / "model", labelled, ctx.output, ctx.scratch, seeds)
    ranks = config.training.ranks
    ctx.progress(0, config.training.steps, "steps", f"starting {ranks} rank{'s' if ranks > 1 else ''}")
    return cast(Metrics, ctx.launch(partial(run_rank, job), ranks, config.training.allowed_ranks()))
