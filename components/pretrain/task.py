"""Pretraining as a `Task`: next-token prediction over packed rows, scored in bits per byte.

Shapes: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.shards.inverse import document_ids
from components.shards.loader import IGNORED, Loader, RowBatch, TokenRows, inputs_and_targets
from components.shards.prefetch import Prefetcher
from components.tokenizer.special import BOS
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
        threads: Threads that read the batches of the next steps.
        document_mask: Tokens see only their own document of a row.
        flops: What training on a token costs, by convention, where it is known.
    """

    def __init__(
        self,
        config: TrainingConfig,
        train: Loader,
        validation: TokenRows,
        on_evaluate: Callable[[Engine, int], None],
        threads: int = 0,
        document_mask: bool = False,
        flops: Mapping[str, float] | None = None,
    ) -> None:
        self._config = config
        self._train = train
        self._validation = validation
        self._on_evaluate = on_evaluate
        self._threads = threads
        self._document_mask = document_mask
        self._flops = dict(flops or {})
        self._ahead: dict[tuple[int, int], Prefetcher[RowBatch]] = {}

    def micro_batches(self, step: int, rank: int, world_size: int) -> Sequence[Batch]:
        """This rank's share of the step's rows; the rank reads no others."""
        if (rank, world_size) not in self._ahead:
            read = partial(self._read, rank, world_size)
            self._ahead[rank, world_size] = Prefetcher(read, self._threads)
        rows = self._ahead[rank, world_size].get(step)
        micro = self._config.micro_batch
        columns: dict[str, NDArray[np.integer]] = {"tokens_BT": rows.tokens, "targets_BT": rows.targets}
        if self._document_mask:
            columns["segments_BT"] = rows.documents
        return [
            {name: torch.from_numpy(column[first : first + micro]) for name, column in columns.items()}
            for first in range(0, len(rows.ids), micro)
        ]

    def units(self, step: int) -> float:
        """Tokens predicted in a step on all ranks; fewer than those read where rows are padded."""
        return float(self._train.num_targets(step))

    def tokens(self, step: int) -> int:
        """Tokens read in a step, padding included."""
        return self._config.batch_size * self._train.length

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Summed cross-entropy of the batch in nats."""
        if "segments_BT" in batch:
            masked: Tensor = module(batch["tokens_BT"], batch["targets_BT"], segments_BT=batch["segments_BT"])
            return masked
        loss: Tensor = module(batch["tokens_BT"], batch["targets_BT"])
        return loss

    def evaluate(self, engine: Engine, step: int) -> dict[str, float]:
        """Bits per byte of the validation split, its batches dealt out to the ranks.

        Every rank makes equally many passes: past the end of the split a batch has no targets.
        """
        micro, num_rows = self._config.micro_batch, self._validation.num_rows
        stride = micro * engine.world_size
        nats = 0.0
        for start in range(engine.rank * micro, -(-num_rows // stride) * stride, stride):
            wanted = np.arange(start, start + micro, dtype=np.int64)
            tokens_BT, targets_BT = inputs_and_targets(self._validation.windows(np.minimum(wanted, num_rows - 1)))
            batch = {"tokens_BT": torch.from_numpy(tokens_BT), "targets_BT": torch.from_numpy(targets_BT)}
            batch["targets_BT"][wanted >= num_rows] = IGNORED
            if self._document_mask:
                batch["segments_BT"] = (batch["tokens_BT"] == BOS).cumsum(1)
            nats += float(self.loss(engine.module, to_device(batch, engine.device)))
        [total] = engine.sum_over_ranks([nats])
        self._on_evaluate(engine, step)
        return {"val_bpb": bits_per_byte(total, self._validation.num_bytes)}

    def documents(self, step: int) -> list[str]:
        """Ids of the documents that a step reads, in the order of its rows."""
        return document_ids(self._train, step)

    def order(self) -> dict[str, object]:
        """What the order of the rows depends on."""
        return self._train.schedule.to_json()

    def bytes_per_unit(self) -> float:
        """UTF-8 bytes of text behind a target, over the whole split: every id of it is a target once an epoch."""
        split = self._train.split
        return sum(int(batch.num_bytes.sum(dtype=np.int64)) for batch in split.batches) / split.num_tokens

    def flops_per_token(self, convention: str) -> float:
        """What training on a token costs; NaN where that was not told."""
        return self._flops.get(convention, math.nan)

    def close(self) -> None:
        """Ends the threads that read ahead."""
        for ahead in self._ahead.values():
            ahead.close()

    def _read(self, rank: int, world_size: int, step: int) -> RowBatch:
        share = self._config.batch_size // world_size
        return self._train.batch(step, rank * share, (rank + 1) * share)
