"""A step that only one of two ranks would object to, importable by spawned processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from components.context import Json, Rank
from components.training.config import TrainingConfig
from tests.components.training.toy import ToyTask, as_json, run

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
