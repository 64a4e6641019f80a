"""One rank of training on pairs: builds model, engine and task, trains, and on rank 0 writes the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from components.context import Json, Rank, derive_seed
from components.model.config import with_vocabulary
from components.model.encoder_decoder import EncoderDecoder
from components.publish import publish_json
from components.tokenizer.load import TextTokenizer
from components.training.engine import make_engine, publish_settings
from components.training.loop import train
from components.training.model_folder import ModelFolder
from components.training.stability import publish_quarantine
from components.translate.config import TranslateConfig
from components.translate.data import read_encoded
from components.translate.task import Translation


@dataclass(frozen=True)
class Job:
    """What every rank is handed: plain, picklable, the same on all.

    Attributes:
        config: The step's settings.
        pairs: Artifact with the pairs.
        tokenizer: Tokenizer artifact.
        output: Where rank 0 writes the artifact.
        scratch: Where checkpoints live.
        seeds: Of "weights", "pairs" (their order) and "dropout".
    """

    config: TranslateConfig
    pairs: Path
    tokenizer: Path
    output: Path
    scratch: Path
    seeds: Mapping[str, int]


def run_rank(job: Job, rank: Rank) -> Json:
    """Trains on this rank; returns the step's metrics."""
    config = replace(job.config, training=job.config.training.on_ranks(rank.world_size))
    tokenizer = TextTokenizer.from_folder(job.tokenizer)
    shape = with_vocabulary(config.model, tokenizer.vocab_size, "translate.model")
    pairs, dropped = read_encoded(job.pairs / "train.arrow", tokenizer, shape.max_length)
    held_out, _ = read_encoded(job.pairs / "held_out.arrow", tokenizer, shape.max_length, config.held_out_pairs)
    task = Translation(config.training, pairs, held_out, job.seeds["pairs"])
    torch.manual_seed(derive_seed(job.seeds["dropout"], rank.rank))
    model = EncoderDecoder(shape, torch.Generator().manual_seed(job.seeds["weights"]))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    files = ModelFolder.of(model, shape, job.tokenizer)
    engine = make_engine(model, config.training, rank)
    try:
        result = train(rank, config.training, engine, task, job.scratch, files=files)
        weights = engine.full_weights()
        if rank.rank == 0:
            files.save(job.output / "model", weights)
            publish_quarantine(job.scratch, job.output)
            publish_json(job.output / "curve.json", result.curve)
            publish_settings(engine, job.output)
    finally:
        engine.close()
    return {
        "val_loss": result.curve[-1]["val_loss"],
        "train_loss": result.loss,
        "steps": result.steps,
        "skipped": result.skipped,
        "pairs": len(pairs),
        "dropped": dropped,
        "epochs": task.epochs(result.steps),
        "tokens_per_second": result.tokens_per_second,
        "parameters": num_parameters,
    }
