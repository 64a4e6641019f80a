"""One rank of reward training: builds model, engine and task, trains, and on rank 0 writes the artifact."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from components.context import Json, Rank
from components.model.language import scalar_from
from components.posttrain.judge import FILE_NAME
from components.posttrain.start import evaluate_start, load_start
from components.publish import publish_json
from components.reward.config import RewardConfig
from components.reward.data import Pair, read_pairs
from components.reward.task import Preferences, right, score_pairs
from components.training.engine import Engine, make_engine, publish_settings
from components.training.loop import train
from components.training.model_folder import ModelFolder
from components.training.stability import publish_quarantine

NUM_SOURCES = 3


@dataclass(frozen=True)
class Job:
    """What every rank is handed: plain, picklable, the same on all.

    Attributes:
        config: The step's settings.
        base: Model folder to start from.
        preferences: Artifact with the pairs.
        output: Where rank 0 writes the artifact.
        scratch: Where checkpoints live.
        seeds: Of "pairs" and "head".
    """

    config: RewardConfig
    base: Path
    preferences: Path
    output: Path
    scratch: Path
    seeds: Mapping[str, int]


def run_rank(job: Job, rank: Rank) -> Json:
    """Trains on this rank; returns the step's metrics."""
    config = replace(job.config, training=job.config.training.on_ranks(rank.world_size))
    base, tokenizer = load_start(job.base, config.max_length, "reward.max_length")
    pairs, dropped = read_pairs(job.preferences / "train.arrow", tokenizer, config.max_length)
    held_out, _ = read_pairs(job.preferences / "held_out.arrow", tokenizer, config.max_length, config.held_out_pairs)
    generator = torch.Generator().manual_seed(job.seeds["head"]) if config.head == "normal" else None
    model = scalar_from(base, generator)
    task = Preferences(config, pairs, held_out, job.seeds["pairs"])
    files = ModelFolder.of(model, model.config, job.base)
    engine = make_engine(model, config.training, rank)
    try:
        before = evaluate_start(engine, task, rank)
        result = train(rank, config.training, engine, task, job.scratch, files=files)
        engine.module.eval()
        gaps = task.held_out_gaps(engine)
        scale = measure_scale(engine, pairs[: config.scale_pairs], config.training.micro_batch)
        weights = engine.full_weights()
        if rank.rank == 0:
            files.save(job.output / "model", weights)
            publish_quarantine(job.scratch, job.output)
            publish_json(job.output / "model" / FILE_NAME, scale)
            publish_json(job.output / "curve.json", [{"step": 0, **before}, *result.curve])
            publish_settings(engine, job.output)
    finally:
        engine.close()
    return {
        **measure_accuracy(gaps, [pair.source for pair in held_out]),
        "train_loss": result.loss,
        "steps": result.steps,
        "skipped": result.skipped,
        "pairs": len(pairs),
        "dropped": dropped,
        "tokens_per_second": result.tokens_per_second,
    }


def measure_accuracy(gaps: Tensor, sources: Sequence[str]) -> dict[str, Json]:
    """What the gaps of held-out pairs come to.

    Args:
        gaps: Chosen minus rejected score of each pair.
        sources: Where each pair is from.

    Returns:
        accuracy, its standard_error (binomial), loss, and accuracy_<source> of the sources with most pairs.
    """
    correct = right(gaps)
    accuracy = float(correct.mean())
    found: dict[str, Json] = {
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / len(gaps)),
        "loss": float(torch.nn.functional.softplus(-gaps).mean()),
    }
    for source, _ in sorted(Counter(sources).items(), key=lambda item: (-item[1], item[0]))[:NUM_SOURCES]:
        rows = [index for index, name in enumerate(sources) if name == source]
        found[f"accuracy_{source}"] = float(correct[rows].mean())
    return found


def measure_scale(engine: Engine, pairs: Sequence[Pair], micro: int) -> dict[str, float]:
    """Mean and standard deviation of the scores that both sides of some pairs get. Collective."""
    values = torch.cat(score_pairs(engine, pairs, micro))
    return {"score_mean": float(values.mean()), "score_std": float(values.std(correction=0)), "pairs": len(pairs)}
