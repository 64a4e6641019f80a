"""SFT as a `Task`: next-token prediction of the assistant's words in packed rows, scored in nats per such word."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from components.posttrain.dialogues import ids_of
from components.posttrain.packing import PackedRows, pack
from components.sft.data import Dialogue, lay_out
from components.training.config import TrainingConfig
from components.training.engine import Engine
from components.training.loop import Batch, to_device


class Replies:
    """See `components.training.loop.Task`.

    Args:
        config: Batch and micro-batch.
        length: Tokens of a row.
        train: Dialogues to learn from.
        held_out: Dialogues to score.
        seed: Chooses the order of the dialogues.
    """

    def __init__(
        self,
        config: TrainingConfig,
        length: int,
        train: Sequence[Dialogue],
        held_out: Sequence[Dialogue],
        seed: int,
    ) -> None:
        self._config, self._length, self._train = config, length, train
        self._sizes = [len(dialogue.inputs) for dialogue in train]
        self._scored = [dialogue.num_scored for dialogue in train]
        self._rows = PackedRows(self._sizes, length, seed)
        sizes = [len(dialogue.inputs) for dialogue in held_out]
        packed = pack(sizes, range(len(sizes)), length)
        self._held_out = [[held_out[item] for item in row] for row in packed]
        self._num_held_out = sum(dialogue.num_scored for dialogue in held_out)

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's rows."""
        share, micro = self._config.batch_size // world_size, self._config.micro_batch
        items = self._items(step)[rank * share : (rank + 1) * share]
        rows = [[self._train[item] for item in row] for row in items]
        return [lay_out(rows[first : first + micro], self._length) for first in range(0, share, micro)]

    def units(self, step: int) -> float:
        """Assistant tokens of the step."""
        return float(sum(self._scored[item] for row in self._items(step) for item in row))

    def tokens(self, step: int) -> int:
        """Tokens read in the step, padding not counted."""
        return sum(self._sizes[item] for row in self._items(step) for item in row)

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the assistant's tokens in nats."""
        loss: Tensor = module(batch["tokens_BT"], batch["targets_BT"], segments_BT=batch["segments_BT"])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Nats per assistant token of the held-out dialogues, rows dealt out to the ranks.

        Every rank makes equally many passes: past the last row a batch is padding, and costs no projection.
        """
        micro, world_size = self._config.micro_batch, engine.world_size
        nats = 0.0
        for first in range(0, len(self._held_out), micro * world_size):
            start = first + engine.rank * micro
            rows = self._held_out[start : start + micro] or [[]]
            nats += float(self.loss(engine.module, to_device(lay_out(rows, self._length), engine.device)))
        [total] = engine.sum_over_ranks([nats])
        return {"val_loss": total / self._num_held_out}

    def documents(self, step: int) -> list[str]:
        """Ids of the dialogues in the step, in the order of its rows."""
        return ids_of(self._train[item] for row in self._items(step) for item in row)

    def epochs(self, steps: int) -> float:
        """Passes over the dialogues that so many steps make."""
        return self._rows.epochs(steps * self._config.batch_size)

    def _items(self, step: int) -> list[list[int]]:
        first = step * self._config.batch_size
        return [self._rows.row(position) for position in range(first, first + self._config.batch_size)]
