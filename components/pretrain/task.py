"""Pretraining as a `Task`: next-token prediction over packed rows, scored in bits per byte.

Shapes: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from components.shards.loader import IGNORED, TokenRows, inputs_and_targets
from components.training.config import TrainingConfig
from components.training.engine import Engine
from components.training.loop import Batch, to_device
from components.training.metrics import bits_per_byte


class NextToken:
    """See `components.training.loop.Task`.

    Args:
        config: Batch and micro-batch.
        train: Rows to learn from.
        validation: Rows to score.
        on_evaluate: Called after each scoring, on all ranks, with the engine and the step.
    """

    def __init__(
        self,
        config: TrainingConfig,
        train: TokenRows,
        validation: TokenRows,
        on_evaluate: Callable[[Engine, int], None],
    ) -> None:
        self._config = config
        self._train = train
        self._validation = validation
        self._on_evaluate = on_evaluate

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's rows; the rank reads no others."""
        size = self._config.batch_size
        share = size // world_size
        start = step * size + rank * share
        positions = np.arange(start, start + share, dtype=np.int64)
        rows = self._train.windows(self._train.order(positions))
        micro = self._config.micro_batch
        return [_batch(rows[first : first + micro]) for first in range(0, share, micro)]

    def units(self, step: int) -> float:
        """Tokens predicted in a step: rows are always full in training."""
        return float(self.tokens(step))

    def tokens(self, step: int) -> int:
        """Tokens read in a step."""
        return self._config.batch_size * self._train.length

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the batch in nats."""
        loss: Tensor = module(batch["tokens_BT"], batch["targets_BT"])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Bits per byte of the validation split, its batches dealt out to the ranks.

        Every rank makes equally many passes: past the end of the split a batch has no targets.
        """
        micro, num_rows = self._config.micro_batch, -(-(self._validation.num_tokens - 1) // self._validation.length)
        stride = micro * engine.world_size
        nats = 0.0
        for start in range(engine.rank * micro, -(-num_rows // stride) * stride, stride):
            wanted = np.arange(start, start + micro, dtype=np.int64)
            batch = _batch(self._validation.windows(np.minimum(wanted, num_rows - 1)))
            batch["targets_BT"][wanted >= num_rows] = IGNORED
            nats += float(self.loss(engine.module, to_device(batch, engine.device)))
        [total] = engine.sum_over_ranks([nats])
        self._on_evaluate(engine, step)
        return {"val_bpb": bits_per_byte(total, self._validation.num_bytes)}


def _batch(rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Batch:
    tokens_BT, targets_BT = inputs_and_targets(rows)
    return {"tokens_BT": torch.from_numpy(tokens_BT), "targets_BT": torch.from_numpy(targets_BT)}
