"""Gaps as a `Task`: an encoder-decoder reads a row with spans taken out and writes them (T5's span corruption).

Rows without padding give sources and targets of one length each; others are padded to it, so that shapes never change.

Shapes: B rows of a batch, S tokens of a source, T tokens of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from components.model.loss import IGNORED
from components.objectives.counts import num_gaps
from components.objectives.gaps import cut_gaps
from components.objectives.pairs import lay_out_pairs
from components.pretrain.config import PretrainConfig
from components.pretrain.rows import CutRows, Ids, without_padding
from components.shards.loader import Loader, TokenRows
from components.training.engine import Engine
from components.training.loop import Batch, to_device


@dataclass(frozen=True)
class Gapped:
    """One row: what is read [S], and what is to be written [T]."""

    source: Ids
    target: Ids


class Gaps:
    """See `components.training.loop.Task`.

    Args:
        config: Of the step.
        train: Rows to learn from.
        validation: Rows to score.
        seed: Chooses where the gaps lie.
        on_evaluate: Called after each scoring, on all ranks, with the engine and the step.
    """

    def __init__(
        self,
        config: PretrainConfig,
        train: Loader,
        validation: TokenRows,
        seed: int,
        on_evaluate: Callable[[Engine, int], None],
    ) -> None:
        self._config, self._on_evaluate, self._length = config, on_evaluate, train.length
        noise, spans = num_gaps(config.length, config.mask_fraction, config.span_length)
        self._lengths = (config.length - noise + spans, noise + spans + 1)
        self._rows = CutRows(config.training, train, validation, self._cut, seed, config.loader_threads)

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's rows."""
        return [self._lay_out(rows) for rows in self._rows.micro_batches(step, rank, world_size)]

    def units(self, step: int) -> float:
        """Tokens to be written in the step on all ranks."""
        return float(sum(len(row.target) for row in self._rows.step(step)))

    def tokens(self, step: int) -> int:
        """Tokens of the rows that a step reads, padding included."""
        return self._config.training.batch_size * self._length

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the targets in nats."""
        segments_BS = batch["source_segments_BS"]
        read = (batch["sources_BS"], batch["tokens_BT"], batch["targets_BT"])
        loss: Tensor = module(*read, source_segments_BS=segments_BS)
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Nats per target token of the validation rows, which have the same gaps at every evaluation.

        Every rank makes equally many passes: past the last row it reads the last one and scores nothing.
        """
        sums = np.zeros(2)
        for rows, past in self._rows.dealt(engine.rank, engine.world_size):
            batch = self._lay_out(rows)
            batch["targets_BT"][past] = IGNORED
            count = float((batch["targets_BT"] != IGNORED).sum())
            sums += [float(self.loss(engine.module, to_device(batch, engine.device))), count]
        nats, count = engine.sum_over_ranks(sums.tolist())
        self._on_evaluate(engine, step)
        return {"val_loss": nats / count}

    def documents(self, step: int) -> list[str]:
        """Ids of the documents that a step reads, in the order of its rows."""
        return self._rows.documents(step)

    def order(self) -> dict[str, object]:
        """What the order of the rows depends on, and what is hidden in them."""
        return self._rows.order(self._config.hiding)

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._rows.close()

    def _cut(self, row_T: Ids, generator: np.random.Generator) -> Gapped:
        config = self._config
        return Gapped(*cut_gaps(without_padding(row_T), config.mask_fraction, config.span_length, generator))

    def _lay_out(self, rows: Sequence[Gapped]) -> Batch:
        sources, targets = [row.source.tolist() for row in rows], [row.target.tolist() for row in rows]
        return lay_out_pairs(sources, targets, self._lengths)
