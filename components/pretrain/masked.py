"""Masked words as a `Task`: an encoder says again what was hidden, scored by how often and how surely it is right.

Shapes: B rows of a batch, T tokens of a row, V vocabulary, M hidden tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.loss import IGNORED
from components.objectives.masking import Vocabulary, mask_row
from components.objectives.words import word_cut, word_numbers
from components.pretrain.config import PretrainConfig
from components.pretrain.rows import CutRows, Ids
from components.shards.loader import Loader, TokenRows
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, PAD
from components.training.engine import Engine
from components.training.loop import Batch, to_device

PADDING = -1
"""Segment of what is no text."""


@dataclass(frozen=True)
class Hidden:
    """One row.

    Attributes:
        seen: What the model sees [T].
        targets: What was there, or `IGNORED` [T].
        segments: The document of each token, all 0 where documents see each other, `PADDING` for padding [T].
    """

    seen: Ids
    targets: Ids
    segments: Ids


class MaskedWords:
    """See `components.training.loop.Task`.

    Args:
        config: Of the step.
        train: Rows to learn from.
        validation: Rows to score.
        tokenizer: Whose mask is put in, and whose words are hidden whole.
        seed: Chooses what is hidden.
        on_evaluate: Called after each scoring, on all ranks, with the engine and the step.
    """

    def __init__(
        self,
        config: PretrainConfig,
        train: Loader,
        validation: TokenRows,
        tokenizer: TextTokenizer,
        seed: int,
        on_evaluate: Callable[[Engine, int], None],
    ) -> None:
        self._config, self._on_evaluate, self._length = config, on_evaluate, train.length
        make = _maker(config, tokenizer)
        self._rows = CutRows(config.training, train, validation, make, seed, config.loader_threads)

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's rows."""
        return [_lay_out(rows) for rows in self._rows.micro_batches(step, rank, world_size)]

    def units(self, step: int) -> float:
        """Hidden tokens of the step on all ranks."""
        return float(sum(int((row.targets != IGNORED).sum()) for row in self._rows.step(step)))

    def tokens(self, step: int) -> int:
        """Tokens read in a step, padding included."""
        return self._config.training.batch_size * self._length

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the hidden tokens in nats."""
        loss: Tensor = module(batch["tokens_BT"], batch["targets_BT"], segments_BT=batch["segments_BT"])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Loss (nats) and accuracy per hidden token of the validation rows, which hide the same at every evaluation.

        Every rank makes equally many passes: past the last row it scores the last one and counts nothing.
        """
        sums = np.zeros(3)
        for rows, past in self._rows.dealt(engine.rank, engine.world_size):
            batch = _lay_out(rows)
            batch["targets_BT"][past] = IGNORED
            sums += _right(engine.module, to_device(batch, engine.device))
        nats, right, count = engine.sum_over_ranks(sums.tolist())
        self._on_evaluate(engine, step)
        return {"val_loss": nats / count, "val_accuracy": right / count}

    def documents(self, step: int) -> list[str]:
        """Ids of the documents that a step reads, in the order of its rows."""
        return self._rows.documents(step)

    def order(self) -> dict[str, object]:
        """What the order of the rows depends on, and what is hidden in them."""
        return self._rows.order(self._config.hiding)

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._rows.close()


def _maker(config: PretrainConfig, tokenizer: TextTokenizer) -> Callable[[Ids, np.random.Generator], Hidden]:
    vocabulary = Vocabulary(tokenizer.num_special, tokenizer.vocab_size)
    cut = None if config.whole_words == "none" else word_cut(config.whole_words, "pretrain.whole_words")

    def make(row_T: Ids, generator: np.random.Generator) -> Hidden:
        words_T = None if cut is None else word_numbers(row_T, tokenizer.pieces, cut)
        seen_T, targets_T = mask_row(row_T, vocabulary, config.mask_fraction, generator, words_T)
        documents_T = np.cumsum(row_T == BOS) if config.document_mask else np.zeros_like(row_T)
        return Hidden(seen_T, targets_T, np.where(row_T == PAD, PADDING, documents_T))

    return make


def _lay_out(rows: Sequence[Hidden]) -> Batch:
    columns = {"tokens_BT": "seen", "targets_BT": "targets", "segments_BT": "segments"}
    return {name: torch.from_numpy(np.stack([getattr(row, part) for row in rows])) for name, part in columns.items()}


def _right(module: nn.Module, batch: Batch) -> list[float]:
    """Nats, number of hidden tokens said right, and number of hidden tokens."""
    logits_BTV: Tensor = module(batch["tokens_BT"], segments_BT=batch["segments_BT"])
    hidden_BT = batch["targets_BT"] != IGNORED
    logits_MV, targets_M = logits_BTV[hidden_BT].float(), batch["targets_BT"][hidden_BT]
    nats = float(F.cross_entropy(logits_MV, targets_M, reduction="sum"))
    return [nats, float((logits_MV.argmax(-1) == targets_M).sum()), float(len(targets_M))]
