"""Translation as a `Task`: the cross-entropy of each target token, given the source and the target before it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from components.model.loss import IGNORED
from components.objectives.pairs import lay_out_pairs
from components.posttrain.dialogues import ids_of
from components.posttrain.packing import ShuffledSteps
from components.training.config import TrainingConfig
from components.training.engine import Engine
from components.training.loop import Batch, to_device
from components.translate.data import Encoded


class Translation:
    """See `components.training.loop.Task`.

    Args:
        config: Batch and micro-batch.
        train: Pairs to learn from.
        held_out: Pairs to score.
        seed: Chooses the order of the pairs.
    """

    def __init__(
        self, config: TrainingConfig, train: Sequence[Encoded], held_out: Sequence[Encoded], seed: int
    ) -> None:
        self._config = config
        self._train = ShuffledSteps(train, lambda pair: pair.size, config.batch_size, config.micro_batch, seed)
        self._held_out = sorted(held_out, key=lambda pair: pair.size)

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's pairs."""
        return [_lay_out(cut) for cut in self._train.micro_batches(step, rank, world_size)]

    def units(self, step: int) -> float:
        """Target tokens of the step."""
        return float(sum(len(pair.target) for pair in self._train.step(step)))

    def tokens(self, step: int) -> int:
        """Tokens of sources and targets in the step, padding not counted."""
        return sum(pair.size for pair in self._train.step(step))

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the targets in nats."""
        read = (batch["sources_BS"], batch["tokens_BT"], batch["targets_BT"])
        loss: Tensor = module(*read, source_segments_BS=batch["source_segments_BS"])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Nats per target token of the held-out pairs, batches dealt out to the ranks.

        Every rank makes equally many passes: past the last pair it reads the last one and scores nothing.
        """
        micro, nats = self._config.micro_batch, 0.0
        for first in range(0, len(self._held_out), micro * engine.world_size):
            start = first + engine.rank * micro
            pairs = self._held_out[start : start + micro]
            batch = _lay_out(pairs or self._held_out[-1:])
            if not pairs:
                batch["targets_BT"].fill_(IGNORED)
            nats += float(self.loss(engine.module, to_device(batch, engine.device)))
        [total] = engine.sum_over_ranks([nats])
        return {"val_loss": total / sum(len(pair.target) for pair in self._held_out)}

    def documents(self, step: int) -> list[str]:
        """Ids of the pairs of a step, in their order."""
        return ids_of(self._train.step(step))

    def epochs(self, steps: int) -> float:
        """Passes over the pairs that so many steps make."""
        return self._train.epochs(steps)


def _lay_out(pairs: Sequence[Encoded]) -> Batch:
    return lay_out_pairs([pair.source for pair in pairs], [pair.target for pair in pairs])
