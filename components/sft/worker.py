"""One rank of supervised fine-tuning: builds model, engine and task, trains, and on rank 0 writes the artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from components.context import Json, Rank
from components.posttrain.start import evaluate_start, load_start
from components.publish import publish_json
from components.sft.config import SftConfig
from components.sft.data import read_dialogues
from components.sft.task import Replies
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
        instructions: Artifact with the dialogues.
        output: Where rank 0 writes the artifact.
        scratch: Where checkpoints live.
        seed: Of the order of the dialogues.
    """

    config: SftConfig
    base: Path
    instructions: Path
    output: Path
    scratch: Path
    seed: int


def run_rank(job: Job, rank: Rank) -> Json:
    """Trains on this rank; returns the step's metrics."""
    config = replace(job.config, training=job.config.training.on_ranks(rank.world_size))
    model, tokenizer = load_start(job.base, config.max_length, "sft.max_length")
    dialogues, dropped = read_dialogues(job.instructions / "train.arrow", tokenizer, config.max_length)
    held_out, _ = read_dialogues(
        job.instructions / "held_out.arrow", tokenizer, config.max_length, config.held_out_examples
    )
    task = Replies(config.training, config.max_length, dialogues, held_out, job.seed)
    files = ModelFolder.of(model, model.config, job.base)
    engine = make_engine(model, config.training, rank)
    try:
        before = evaluate_start(engine, task, rank)
        result = train(rank, config.training, engine, task, job.scratch, files=files)
        weights = engine.full_weights()
        if rank.rank == 0:
            files.save(job.output / "model", weights)
            publish_quarantine(job.scratch, job.output)
            publish_json(job.output / "curve.json", [{"step": 0, **before}, *result.curve])
            publish_settings(engine, job.output)
    finally:
        engine.close()
    return {
        "val_loss": result.curve[-1]["val_loss"],
        "base_val_loss": before["val_loss"],
        "train_loss": result.loss,
        "steps": result.steps,
        "skipped": result.skipped,
        "examples": len(dialogues),
        "dropped": dropped,
        "packed": result.tokens / (result.steps * config.training.batch_size * config.max_length),
        "epochs": task.epochs(result.steps),
        "tokens_per_second": result.tokens_per_second,
    }
