"""One rank of fine-tuning a classifier: builds model, engine and task, trains, and on rank 0 writes the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from components.classify.config import ClassifyConfig
from components.classify.data import CLASSIFIER, read_examples, read_labels
from components.classify.task import Labels
from components.context import Json, Rank, derive_seed
from components.errors import StepError
from components.model.config import ENCODERS
from components.model.heads import ClassifierModel
from components.model.huggingface import load_transformer, read_config
from components.posttrain.start import evaluate_start
from components.publish import publish_json
from components.tokenizer.load import TextTokenizer
from components.training.engine import make_engine, publish_settings
from components.training.loop import train
from components.training.model_folder import ModelFolder
from components.training.stability import publish_quarantine


@dataclass(frozen=True)
class Job:
    """What every rank is handed: plain, picklable, the same on all.

    Attributes:
        config: The step's settings.
        base: Model folder to start from.
        labelled: Artifact with the texts.
        output: Where rank 0 writes the artifact.
        scratch: Where checkpoints live.
        seeds: Of "texts" (their order), "head" and "dropout".
    """

    config: ClassifyConfig
    base: Path
    labelled: Path
    output: Path
    scratch: Path
    seeds: Mapping[str, int]


def run_rank(job: Job, rank: Rank) -> Json:
    """Trains on this rank; returns the step's metrics."""
    config = replace(job.config, training=job.config.training.on_ranks(rank.world_size))
    labels = read_labels(job.labelled)
    tokenizer = TextTokenizer.from_folder(job.base)
    texts = read_examples(job.labelled / "train.arrow", labels, tokenizer, config.max_length)
    validation = read_examples(
        job.labelled / "validation.arrow", labels, tokenizer, config.max_length, config.validation_texts
    )
    model = _start(job.base, config, len(labels), job.seeds["head"])
    torch.manual_seed(derive_seed(job.seeds["dropout"], rank.rank))
    task = Labels(config.training, texts, validation, job.seeds["texts"])
    files = ModelFolder.of(model, model.config, job.base, tuple(labels))
    engine = make_engine(model, config.training, rank)
    try:
        before = evaluate_start(engine, task, rank)
        result = train(rank, config.training, engine, task, job.scratch, files=files)
        weights = engine.full_weights()
        if rank.rank == 0:
            files.save(job.output / "model", weights)
            publish_quarantine(job.scratch, job.output)
            publish_json(job.output / CLASSIFIER, {"labels": labels, "max_length": config.max_length})
            publish_json(job.output / "curve.json", [{"step": 0, **before}, *result.curve])
            publish_settings(engine, job.output)
    finally:
        engine.close()
    return {
        **{name: value for name, value in result.curve[-1].items() if name.startswith("val_")},
        "train_loss": result.loss,
        "steps": result.steps,
        "skipped": result.skipped,
        "texts": len(texts),
        "epochs": task.epochs(result.steps),
        "tokens_per_second": result.tokens_per_second,
    }


def _start(folder: Path, config: ClassifyConfig, num_labels: int, seed: int) -> ClassifierModel:
    """The pretrained encoder with a new head, or its shape with weights drawn anew.

    Raises:
        StepError: If the model is no encoder, or reads no such length.
    """
    shape = read_config(folder)
    if shape.family not in ENCODERS:
        raise StepError(
            f"The model is a {shape.family}; a classifier is made of an encoder.",
            where=str(folder),
            fix="pretrain with pretrain.model.family=bert pretrain.objective=masked",
        )
    if config.max_length > shape.max_length:
        raise StepError(
            f"The model reads at most {shape.max_length} tokens.",
            where=f"classify.max_length={config.max_length}",
            fix=f"set classify.max_length={shape.max_length}, or pretrain with a larger model.max_length",
        )
    generator = torch.Generator().manual_seed(seed)
    if config.scratch:
        return ClassifierModel(replace(shape, dropout=config.dropout), num_labels, generator)
    return ClassifierModel.from_transformer(load_transformer(folder), num_labels, generator, config.dropout)
