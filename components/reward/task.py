"""Reward training as a `Task`: Bradley-Terry over pairs, both sides of a pair in one forward pass.

A conversation's score is the head's value at its last token. Rows are padded on the right, where no real token looks.

Shapes: P pairs, B = 2 P rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.posttrain.dialogues import ids_of
from components.posttrain.packing import ShuffledSteps
from components.posttrain.preference import bradley_terry
from components.reward.config import RewardConfig
from components.reward.data import Pair, lay_out
from components.training.engine import Engine
from components.training.loop import Batch, to_device


class Preferences:
    """See `components.training.loop.Task`.

    Args:
        config: Batch, micro-batch and the terms of the loss.
        train: Pairs to learn from.
        held_out: Pairs to score.
        seed: Chooses the order of the pairs.
    """

    def __init__(self, config: RewardConfig, train: Sequence[Pair], held_out: Sequence[Pair], seed: int) -> None:
        self._config, self._held_out = config, held_out
        batch = config.training
        self._train = ShuffledSteps(train, lambda pair: pair.length, batch.batch_size, batch.micro_batch, seed)

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's pairs."""
        return [lay_out(cut) for cut in self._train.micro_batches(step, rank, world_size)]

    def units(self, step: int) -> float:
        """Pairs of a step."""
        return float(self._config.training.batch_size)

    def tokens(self, step: int) -> int:
        """Tokens read in the step, padding not counted."""
        return sum(len(pair.chosen) + len(pair.rejected) for pair in self._train.step(step))

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed loss of the pairs."""
        chosen_P, rejected_P = scores(module, batch).chunk(2)
        weight = self._config.margin_weight
        margin_P = weight * batch["margin_P"] if weight else None
        return bradley_terry(chosen_P, rejected_P, margin_P, self._config.centring)

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Accuracy (a tie counts half) and mean loss in nats on the held-out pairs, the order alone asked for."""
        gaps = self.held_out_gaps(engine)
        loss = float(torch.nn.functional.softplus(-gaps).mean())
        return {"val_accuracy": float(right(gaps).mean()), "val_loss": loss}

    def documents(self, step: int) -> list[str]:
        """Ids of the pairs of a step, in their order."""
        return ids_of(self._train.step(step))

    def held_out_gaps(self, engine: Engine) -> Tensor:
        """Chosen minus rejected score of every held-out pair, float64. Collective."""
        chosen, rejected = score_pairs(engine, self._held_out, self._config.training.micro_batch)
        return chosen - rejected


def scores(module: nn.Module, batch: Batch) -> Tensor:
    """The score of every row: the head's value at its last token, [B]."""
    values_BT: Tensor = module(batch["tokens_BT"])
    return values_BT.gather(1, batch["last_B"][:, None]).squeeze(1)


def score_pairs(engine: Engine, pairs: Sequence[Pair], micro: int) -> tuple[Tensor, Tensor]:
    """Scores both sides of pairs, batches of like length dealt out to the ranks. Collective.

    Returns:
        The chosen and the rejected sides' scores in the order of the pairs, float64 on the CPU, on every rank.
    """
    order = sorted(range(len(pairs)), key=lambda index: pairs[index].length)
    found = torch.zeros(2, len(pairs), dtype=torch.float64)
    for first in range(0, len(order), micro * engine.world_size):
        start = first + engine.rank * micro
        items = order[start : start + micro]
        with torch.no_grad():
            batch = to_device(lay_out([pairs[item] for item in items]), engine.device)
            values_B = scores(engine.module, batch).double().cpu()
        if items:
            found[:, items] = values_B.view(2, len(items))
    total = torch.tensor(engine.sum_over_ranks(found.flatten().tolist()), dtype=torch.float64)
    chosen, rejected = total.view(2, len(pairs))
    return chosen, rejected


def right(gaps: Tensor) -> Tensor:
    """1 where the preferred reply scores higher, 0 where it scores lower, one half where both score the same."""
    return (gaps.sign() + 1) / 2
