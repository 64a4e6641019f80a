"""Fine-tuning a classifier as a `Task`: the cross-entropy of the right label, a text a row.

Shapes: B texts, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.classify.data import Example, lay_out
from components.model.loss import IGNORED
from components.posttrain.dialogues import ids_of
from components.posttrain.packing import ShuffledSteps
from components.training.config import TrainingConfig
from components.training.engine import Engine
from components.training.loop import Batch, to_device


class Labels:
    """See `components.training.loop.Task`.

    Args:
        config: Batch and micro-batch.
        train: Texts to learn from.
        validation: Texts to score on the way.
        seed: Chooses the order of the texts.
    """

    def __init__(
        self, config: TrainingConfig, train: Sequence[Example], validation: Sequence[Example], seed: int
    ) -> None:
        self._config = config
        self._train = ShuffledSteps(
            train, lambda example: len(example.ids), config.batch_size, config.micro_batch, seed
        )
        self._validation = sorted(validation, key=lambda example: len(example.ids))

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's texts."""
        cuts = self._train.micro_batches(step, rank, world_size)
        return [lay_out(cut, self._config.micro_batch) for cut in cuts]

    def units(self, step: int) -> float:
        """Texts of a step."""
        return float(self._config.batch_size)

    def tokens(self, step: int) -> int:
        """Tokens read in the step, padding not counted."""
        return sum(len(example.ids) for example in self._train.step(step))

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the labels in nats."""
        scores_BL = label_scores(module, batch)
        return F.cross_entropy(scores_BL, batch["labels_B"], reduction="sum", ignore_index=IGNORED)

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Accuracy and nats per text on the validation texts, batches dealt out to the ranks, equally many to each."""
        micro, sums = self._config.micro_batch, np.zeros(2)
        for first in range(0, len(self._validation), micro * engine.world_size):
            start = first + engine.rank * micro
            batch = to_device(lay_out(self._validation[start : start + micro], micro), engine.device)
            scores_BL = label_scores(engine.module, batch)
            right = float((scores_BL.argmax(-1) == batch["labels_B"]).sum())
            nats = F.cross_entropy(scores_BL, batch["labels_B"], reduction="sum", ignore_index=IGNORED)
            sums += [right, float(nats)]
        right, total = engine.sum_over_ranks(sums.tolist())
        count = len(self._validation)
        return {"val_accuracy": right / count, "val_loss": total / count}

    def documents(self, step: int) -> list[str]:
        """Ids of the texts of a step, in their order."""
        return ids_of(self._train.step(step))

    def epochs(self, steps: int) -> float:
        """Passes over the texts that so many steps make."""
        return self._train.epochs(steps)


def label_scores(module: nn.Module, batch: Batch) -> Tensor:
    """Logits of the labels in fp32, [B, L]."""
    scores_BL: Tensor = module(batch["tokens_BT"], segments_BT=batch["segments_BT"])
    return scores_BL.to(torch.promote_types(scores_BL.dtype, torch.float32))
