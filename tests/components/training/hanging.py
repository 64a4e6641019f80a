"""Rank functions that hang, importable by spawned processes."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.context import Json, Rank
from components.training.config import TrainingConfig
from components.training.engine import Engine
from components.training.loop import train
from tests.components.training.toy import ToyTask, make_toy

EVALUATION_BATCHES, BATCH_S = 9, 0.5


@dataclass(frozen=True)
class SleepyTask(ToyTask):
    """Falls asleep where it reads its data, on one rank.

    Attributes:
        asleep: That rank.
        at: In this step.
        holding: It holds the interpreter in its sleep: no other thread of the process runs.
    """

    asleep: int = 1
    at: int = 3
    holding: bool = False

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[dict[str, Tensor]]:
        if step == self.at and rank == self.asleep:
            fall_asleep(self.holding)
        return super().micro_batches(step, rank, world_size)


@dataclass(frozen=True)
class SlowlyEvaluatedTask(ToyTask):
    """Each evaluation takes longer than a step may; in the last one the last rank falls asleep at its third batch."""

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        for batch in range(EVALUATION_BATCHES):
            if batch == 2 and step == self.config.steps and engine.rank == engine.world_size - 1:
                fall_asleep(False)
            time.sleep(BATCH_S)
            self.loss(engine.module, {"tokens": self._tokens(batch, 1), "poison": torch.ones(())})
        return super().evaluate(engine, step)


def fall_asleep(holding: bool) -> None:
    """Named as it is so that a test finds it in the stacks."""
    if holding:
        ctypes.PyDLL(None).sleep(300)
    else:
        time.sleep(300)


def train_sleepily(config: TrainingConfig, scratch: Path, holding: bool, rank: Rank) -> Json:
    """Rank function: the last rank never ends its fourth step."""
    task = SleepyTask(config, asleep=rank.world_size - 1, holding=holding)
    train(rank, config, make_toy(config, rank), task, scratch)
    return None


def evaluate_sleepily(config: TrainingConfig, scratch: Path, rank: Rank) -> Json:
    """Rank function: every evaluation is slow, and the last one never ends on the last rank."""
    train(rank, config, make_toy(config, rank), SlowlyEvaluatedTask(config), scratch)
    return None
