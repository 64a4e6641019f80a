"""What is learned, apart from how: the batches of a step, the loss of one, and the score of a model.

All of it is a pure function of the step: that is the whole position in the data, so a resume needs no other.

    micro_batches(step, rank, world_size) -> Sequence[Batch]      equally many on every rank (ZeRO-3 needs it)
    units(step) -> float                      global number of loss units of the step (tokens, pairs)
    tokens(step) -> int                       global number of tokens the step reads, for tokens per second
    loss(module, batch) -> Tensor             SUM of the loss over the batch's units; the batch is on the device
    evaluate(engine, step) -> dict[str, float]    collective; under no_grad and module.eval(); sums over ranks by
                                              engine.sum_over_ranks; equally many forward passes on every rank

A task that also has one of these methods gets more out of it:

    documents(step) -> list[str]              ids of what the step reads: names them when a batch is left out
    bytes_per_unit() -> float                 bytes of text behind a unit of loss in nats: logs bits per byte
    flops_per_token(convention) -> float      "palm" or "causal", of training: logs MFU
    order() -> dict                           what the order of the data depends on: kept in checkpoints
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from components.training.engine import Engine

Batch: TypeAlias = dict[str, Tensor]
"""On the CPU; the loop moves it."""


class Task(Protocol):
    """What is learned: batches, loss and evaluation. Pure functions of the step, so resume needs no data state."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's part of a step's batch, cut into micro-batches; equally many on every rank."""

    def units(self, step: int) -> float:
        """Number of loss units of the step on all ranks together (tokens, pairs): what the loss is divided by."""

    def tokens(self, step: int) -> int:
        """Number of tokens the step reads on all ranks together."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """SUM of the loss over the batch's units, a scalar with gradient."""

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Scores the model after `step` steps, the same on every rank. Collective."""


@runtime_checkable
class Traceable(Protocol):
    """A task that can name what it read."""

    def documents(self, step: int) -> list[str]:
        """Ids of the documents that the step reads on all ranks together."""


@runtime_checkable
class Ordered(Protocol):
    """A task that can tell what the order of its data depends on."""

    def order(self) -> dict[str, object]:
        """Plain values, for whoever goes on from a checkpoint."""


@runtime_checkable
class Costed(Protocol):
    """A task that knows what a token costs."""

    def flops_per_token(self, convention: str) -> float:
        """FLOPs of training on one token, attention counted in full ("palm") or halved ("causal"); NaN if unknown."""


@runtime_checkable
class Spelled(Protocol):
    """A task whose loss is in nats and whose units stand for text."""

    def bytes_per_unit(self) -> float:
        """UTF-8 bytes of training text behind a unit of loss, on average."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; itself where it already is."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
