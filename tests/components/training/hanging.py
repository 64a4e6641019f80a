"""Rank functions that hang, importable by spawned processes."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from components.context import Json, Rank
from components.training.config import TrainingConfig
from components.training.loop import train
from tests.components.training.toy import ToyTask, make_toy


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
