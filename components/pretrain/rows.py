"""Rows for objectives that hide part of them: what a rank reads of a step, and how much the whole step scores.

How many tokens of a row are hidden depends on its text, and the loss is divided by their number over all ranks. So
every rank reads and cuts all rows of a step and computes on its own share: a row costs some ten microseconds, and no
message is needed that could make a batch more than a function of its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.context import derive_seed
from components.shards.inverse import document_ids
from components.shards.loader import Loader, TokenRows
from components.shards.prefetch import Prefetcher
from components.tokenizer.special import PAD
from components.training.config import TrainingConfig

Example = TypeVar("Example")
Ids = NDArray[np.int64]
Make = Callable[[Ids, np.random.Generator], Example]


class CutRows(Generic[Example]):
    """The examples that a step's rows are made into.

    Args:
        config: Batch and micro-batch.
        train: Rows to learn from.
        validation: Rows to score.
        make: Makes an example out of a row and a random generator.
        seed: Root of the generators; each row of training has one of its own, and so has each row of validation, the
            same at every evaluation.
        threads: Threads that read the batches of the next steps.
    """

    def __init__(
        self,
        config: TrainingConfig,
        train: Loader,
        validation: TokenRows,
        make: Make[Example],
        seed: int,
        threads: int = 0,
    ) -> None:
        self._config, self._train, self._validation = config, train, validation
        self._make, self._seed = make, seed
        self._ahead = Prefetcher(self._read, threads)
        self._newest: tuple[int, list[Example]] = (-1, [])

    def step(self, step: int) -> list[Example]:
        """All examples of a step, in order."""
        if self._newest[0] != step:
            self._newest = (step, self._ahead.get(step))
        return self._newest[1]

    def micro_batches(self, step: int, rank: int, world_size: int) -> list[list[Example]]:
        """A rank's share of a step."""
        share, micro = self._config.batch_size // world_size, self._config.micro_batch
        mine = self.step(step)[rank * share : (rank + 1) * share]
        return [mine[first : first + micro] for first in range(0, share, micro)]

    def documents(self, step: int) -> list[str]:
        """Ids of the documents that a step reads, in the order of its rows."""
        return document_ids(self._train, step)

    def order(self, hidden: Mapping[str, object]) -> dict[str, object]:
        """What the order of the rows depends on, and what is hidden in them."""
        return {**self._train.schedule.to_json(), "hidden": {**hidden, "seed": self._seed}}

    def dealt(self, rank: int, world_size: int) -> Iterator[tuple[list[Example], list[bool]]]:
        """The micro-batches of validation that a rank scores, equally many on every rank.

        Returns:
            For each its examples, and which of them are past the last row: that one again, to count for nothing.
        """
        micro, num_rows = self._config.micro_batch, self._validation.num_rows
        for start in range(rank * micro, num_rows + rank * micro, micro * world_size):
            wanted = range(start, start + micro)
            examples = self.scored([min(row, num_rows - 1) for row in wanted])
            yield examples, [row >= num_rows for row in wanted]

    def scored(self, rows: Sequence[int]) -> list[Example]:
        """The examples of some rows of validation."""
        ids = self._validation.windows(np.asarray(rows, dtype=np.int64))[:, :-1]
        return [self._example(row, "validation", number) for row, number in zip(ids, rows, strict=True)]

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._ahead.close()

    def _read(self, step: int) -> list[Example]:
        first = step * self._config.batch_size
        rows = self._train.batch(step).tokens
        return [self._example(row, "training", first + place) for place, row in enumerate(rows)]

    def _example(self, row: NDArray[np.integer], part: str, number: int) -> Example:
        generator = np.random.default_rng(derive_seed(self._seed, part, number))
        return self._make(row.astype(np.int64), generator)


def without_padding(row_T: Ids) -> Ids:
    """The row up to its padding, which a row has at its end alone; at least two ids are left."""
    padded = int((row_T[::-1] != PAD).argmax()) if row_T[-1] == PAD else 0
    return row_T[: max(2, len(row_T) - padded)]
