"""Training rows out of token shards: what row comes at which step is a pure function, so there is no state to save.

The documents of a split, in shard and doc_id order, form one stream of ids: `[bos] text [eos] [bos] text [eos] ...`.
Row r is the window of `length + 1` ids that starts at `r * length`: neighbours share one id, the last target of one and
the first input of the next, so each id except the very first is a target exactly once. Nothing is cropped or padded in
training; the rest that does not fill a row (less than `length` ids of the whole split) is left out.

Order: position p = step * batch_size + i of the run lies in epoch p // num_rows, and each epoch has its own keyed
permutation of the rows. A resumed run, or one on another number of ranks, asks for the same positions and gets the
same rows. No buffer, no index, no worker processes: a window is a slice of the memory-mapped file.

Bits per byte: `rows_sequential` covers the whole stream, its last row filled up with PAD, which `inputs_and_targets`
excludes from the loss. So every id of every document is predicted once, the first `<|bos|>` of the split excepted, and
the bytes behind those predictions are exactly the bytes of all documents' text: `num_bytes`. The ids that stand for no
text (`<|eos|>` after each document, `<|bos|>` before the next) are predicted too and cost bits but no bytes: a model
pays for knowing where a document ends. Hence
    bits per byte = sum of -ln p over the targets of rows_sequential / ln 2 / num_bytes,
comparable between tokenizers, since numerator and denominator cover the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.context import derive_seed
from components.errors import StepError
from components.shards.format import TokenShard, map_tokens
from components.shards.permutation import permute
from components.tokenizer.special import PAD

IGNORED = -100  # the target that torch's cross-entropy leaves out


class TokenRows:
    """The rows of one split.

    Args:
        shards: Mapped shards, in order.
        length: Ids a model sees at once; rows have one more.
        seed: Chooses the order of the rows.
        max_documents: Leaves out the documents after the first so many. Documents lie in the order of their hash, so
            these are a fair sample; None takes all.
    """

    def __init__(self, shards: list[TokenShard], length: int, seed: int, max_documents: int | None = None) -> None:
        self.length = length
        self.seed = seed
        self.num_documents = self.num_bytes = 0
        self._pieces = [piece for shard in shards for piece in self._take(shard, max_documents)]
        self._ends = np.cumsum([len(piece) for piece in self._pieces], dtype=np.int64)

    @classmethod
    def open(cls, folder: Path, length: int, seed: int = 0, max_documents: int | None = None) -> TokenRows:
        """Opens one split of a tokens artifact, such as `tokens / "train"`.

        Raises:
            StepError: If there is no shard, one is damaged, or the ids do not fill a single row.
        """
        paths = sorted(folder.glob("shard-*.arrow"))
        if not paths:
            raise StepError("There are no token shards.", where=str(folder), fix="give the folder of a tokens artifact")
        rows = cls([map_tokens(path) for path in paths], length, seed, max_documents)
        if not rows.num_rows:
            raise StepError(
                f"{rows.num_documents} documents of {rows.num_tokens} tokens do not fill one row of {length + 1}.",
                where=str(folder),
                fix="crawl more pages, lower pretrain.length, or (for validation) raise tokens.min_val_documents",
            )
        return rows

    @property
    def num_tokens(self) -> int:
        """Ids in the stream, `<|bos|>` and `<|eos|>` included."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_rows(self) -> int:
        """Whole rows of the stream: those that training serves, once per epoch."""
        return max(0, self.num_tokens - 1) // self.length

    def order(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row at each position of the run: positions [N] count rows from the first step on, over all epochs."""
        epochs, places = np.divmod(positions, self.num_rows)
        rows = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            rows[here] = permute(places[here], self.num_rows, derive_seed("rows", self.seed, epoch))
        return rows

    def batch(self, step: int, batch_size: int) -> NDArray[np.int64]:
        """The rows of one training step, counted from 0.

        Returns:
            Ids [batch_size, length + 1]; inputs are all but the last column, targets all but the first.
        """
        return self.windows(self.order(np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)))

    def rows_sequential(self, batch_size: int) -> Iterator[NDArray[np.int64]]:
        """The whole stream in order, for validation: ids [up to batch_size, length + 1], the last row PAD-filled."""
        num_rows = -(-max(0, self.num_tokens - 1) // self.length)
        for start in range(0, num_rows, batch_size):
            yield self.windows(np.arange(start, min(start + batch_size, num_rows), dtype=np.int64))

    def windows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of some rows: [len(rows), length + 1]; what lies past the end of the stream is PAD."""
        width = self.length + 1
        out = np.full((len(rows), width), PAD, dtype=np.int64)
        starts = rows * self.length
        numbers = np.searchsorted(self._ends, starts, side="right")
        befores = starts - self._ends[numbers]  # minus the ids left in the row's first piece
        for line, number, before in zip(out, numbers.tolist(), befores.tolist(), strict=True):
            piece = self._pieces[number]
            part = piece[len(piece) + before :][:width]
            line[: len(part)] = part
            if len(part) < width:
                self._continue(line, len(part), number + 1)
        return out

    def _continue(self, line: NDArray[np.int64], filled: int, number: int) -> None:
        """Fills the rest of a row from the pieces that follow."""
        while filled < len(line) and number < len(self._pieces):
            part = self._pieces[number][: len(line) - filled]
            line[filled : filled + len(part)] = part
            filled, number = filled + len(part), number + 1

    def _take(self, shard: TokenShard, limit: int | None) -> Iterator[NDArray[np.uint16] | NDArray[np.uint32]]:
        """Counts a shard's documents in, up to the limit, and gives the part of its ids that belongs to them."""
        count = len(shard.doc_ids)
        count = count if limit is None else min(count, limit - self.num_documents)
        if count:
            self.num_documents += count
            self.num_bytes += int(shard.num_bytes[:count].sum(dtype=np.int64))
            yield shard.values[int(shard.offsets[0]) : int(shard.offsets[count])]


def inputs_and_targets(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits rows [B, length + 1] into inputs and targets [B, length]; a PAD target becomes -100 (not scored)."""
    targets = rows[:, 1:]
    return rows[:, :-1], np.where(targets == PAD, IGNORED, targets)
