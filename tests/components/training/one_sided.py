"""Steps that ranks would judge and clip otherwise each by itself, importable by spawned processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from components.context import Json, Rank
from components.training.config import TrainingConfig
from tests.components.training.toy import ToyTask, as_json, run, spike_at_each_stage

AT = 20


class OneSidedTask(ToyTask):
    """In step `AT` the loss of the second half of the rows is far too high, by a number without a gradient."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        batches = super().micro_batches(step, rank, world_size)
        first = rank * self.config.batch_size // world_size
        for number, batch in enumerate(batches):
            late = first + number * self.config.micro_batch >= self.config.batch_size // 2
            batch["offset"] = torch.tensor(1e5 if step == AT and late else 0.0)
        return batches

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return super().loss(module, batch) + batch.get("offset", 0.0)


def train_one_sided(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """Rank function: trains it; the guard judges."""
    return as_json(*run(config, rank, scratch, OneSidedTask(config)))


def clip_at_each_stage(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """Rank function: the toy at ZeRO 0 to 3 under the config's clipping."""
    stages = [dataclasses.replace(config, zero_stage=stage) for stage in range(4)]
    return {str(one.zero_stage): as_json(*run(one, rank, scratch / str(one.zero_stage))) for one in stages}


def guard_on_ranks(configs: dict[str, TrainingConfig], scratch: Path, rank: Rank) -> Json:
    """Rank function: all that needs two ranks, in one launch, because a launch costs seconds."""
    return {
        "spikes": spike_at_each_stage(configs["spikes"], scratch / "spikes", rank),
        "one-sided": train_one_sided(configs["one-sided"], scratch / "one-sided", rank),
        "clipped": clip_at_each_stage(configs["clipped"], scratch / "clipped", rank),
    }
