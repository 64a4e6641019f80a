"""Training rows out of token shards: what a step reads is a pure function of the step, so there is no state to save.

The plan says which slices of which documents make a row (`plan`), the order says which row comes when (`order`), and a
row is a few copies out of memory-mapped files. Nothing is buffered, and the answer depends neither on the number of
ranks nor on who asked before: a run that was killed, or goes on with other ranks or workers, reads what it would have.

A row has `length + 1` ids: all but the last are inputs, all but the first are targets. PAD is never a target, and
neither is the first id of a piece that continues a document cut elsewhere: what comes before it in the row is of
another text. Rows know their documents: `documents` and `positions` for attention masks, `cu_seqlens` for attention
over variable lengths.

Validation reads the stream of a split in order (`TokenRows`): `rows_sequential` covers all of it, its last row filled
up with PAD. So every id of every document is predicted once, the first `<|bos|>` of the split excepted, and the bytes
behind those predictions are exactly the bytes of all documents' text: `num_bytes`. The ids that stand for no text
(`<|eos|>` after each document, `<|bos|>` before the next) are predicted too and cost bits but no bytes: a model
pays for knowing where a document ends. Hence
    bits per byte = sum of -ln p over the targets of rows_sequential / ln 2 / num_bytes,
comparable between tokenizers, since numerator and denominator cover the same text.

Shapes: B rows, T = length; what has no other shape is [B, T].
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from components.errors import StepError
from components.shards.corpus import IntArray, Spans, TokenSplit, open_split
from components.shards.order import Order
from components.shards.plan import Plan, Runs, concat_plan, open_plan
from components.shards.schedule import Schedule
from components.tokenizer.special import BOS, PAD

BLOCK = 2048
"""Samples that are laid out together: finding a few rows takes as long as finding many."""
KEPT = 4
"""Blocks kept: more than the threads that read ahead are ever apart."""
IGNORED = -100  # the target that torch's cross-entropy leaves out


@dataclass(frozen=True)
class RowBatch:
    """Some rows.

    Attributes:
        ids: Ids of the rows, int64 [B, T + 1].
        spans: The slices they are made of.
    """

    ids: IntArray
    spans: Spans

    @property
    def tokens(self) -> IntArray:
        """What the model sees."""
        return self.ids[:, :-1]

    @cached_property
    def targets(self) -> IntArray:
        """What it has to say; IGNORED where it is not scored. A view of `ids` where everything is."""
        targets, spans = self.ids[:, 1:], self.spans
        later = spans.slots > 0
        lines, slots = spans.lines[later], spans.slots[later]
        goes_on = self.ids[lines, slots] != BOS  # the piece continues a document that was cut elsewhere
        padded = np.flatnonzero(np.bincount(spans.lines, spans.sizes, len(self.ids)) < self.ids.shape[1])
        if goes_on.any() or len(padded):
            targets = targets.copy()
            targets[lines[goes_on], slots[goes_on] - 1] = IGNORED
            targets[padded] = np.where(targets[padded] == PAD, IGNORED, targets[padded])
        return targets

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """Which targets are scored."""
        mask: NDArray[np.bool_] = self.targets != IGNORED
        return mask

    @cached_property
    def documents(self) -> NDArray[np.int32]:
        """Which piece of a document in its row each input belongs to, from 0; -1 for PAD."""
        starts = self.cu_seqlens[:-1]
        num_rows, length = self.tokens.shape
        numbers = np.arange(len(starts)) - np.searchsorted(starts, starts // length * length)
        numbers[self.ids[starts // length, starts % length] == PAD] = -1
        return np.repeat(numbers.astype(np.int32), np.diff(self.cu_seqlens)).reshape(num_rows, length)

    @cached_property
    def positions(self) -> NDArray[np.int32]:
        """Place of each input in its piece of a document, from 0; a run of PAD counts from 0 as well."""
        places = np.arange(self.tokens.size, dtype=np.int32)
        places -= np.repeat(self.cu_seqlens[:-1], np.diff(self.cu_seqlens))
        return places.reshape(self.tokens.shape)

    @cached_property
    def cu_seqlens(self) -> NDArray[np.int32]:
        """0, and the ends of all pieces and runs of PAD, all rows of inputs laid end to end: int32 [pieces + 1]."""
        num_rows, length = self.tokens.shape
        spans, width = self.spans, length + 1
        # No text gives the id of <|bos|>, so it begins every document and nothing else; a slice may begin inside one.
        begins = np.flatnonzero(self.ids.reshape(-1) == BOS)
        rows, slots = np.divmod(begins, width)
        filled = np.bincount(spans.lines, spans.sizes, num_rows).astype(np.int64)
        lines = np.arange(num_rows)
        rows = np.concatenate([lines, rows, spans.lines, lines])
        slots = np.concatenate([np.zeros(num_rows, np.int64), slots, spans.slots, filled])
        starts = np.unique((rows * length + slots)[slots < length])
        return np.append(starts, num_rows * length).astype(np.int32)


@dataclass(frozen=True)
class _Block:
    """`BLOCK` samples: their slices, and the scored targets of each."""

    spans: Spans
    targets: IntArray


class Loader:
    """The rows of training, step by step.

    Args:
        split: The documents.
        plan: Their rows.
        schedule: Their order.

    Raises:
        StepError: If the schedule asks for rows that the plan does not have.
    """

    def __init__(self, split: TokenSplit, plan: Plan, schedule: Schedule) -> None:
        self.split = split
        self.plan = plan
        self.schedule = schedule
        self.order = Order(plan, schedule)
        self._groups = list(plan.groups.values())
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._lock = Lock()
        if not self.order.num_rows:
            raise _no_row(split, schedule.length)

    @classmethod
    def open(cls, tokens: Path, schedule: Schedule, plan: Path | None = None) -> Loader:
        """Opens the training split of a tokens artifact.

        Args:
            tokens: The tokens artifact.
            schedule: Order, length and mixture.
            plan: A pack artifact; None joins all documents and cuts them every `length` ids.

        Raises:
            StepError: If a shard is not as it was written, the plan does not belong to the tokens, or no row is filled.
        """
        split = TokenSplit.open(tokens, "train")
        return cls(split, concat_plan(split, schedule.length) if plan is None else open_plan(plan, tokens), schedule)

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.schedule.length

    @property
    def num_rows(self) -> int:
        """Rows of all groups: of an epoch, where nothing is mixed."""
        return self.order.num_rows

    def batch(self, step: int, first: int = 0, last: int | None = None) -> RowBatch:
        """The rows of a step, or those from `first` to before `last` of them."""
        size = self.schedule.batch_size
        low, high = step * size + first, step * size + (size if last is None else last)
        parts = [block.spans.of_lines(*lines) for block, lines in self._blocks_of(low, high)]
        spans = parts[0] if len(parts) == 1 else _in_one(parts, low)
        return RowBatch(self.split.read(spans, high - low, self.length + 1), spans)

    def num_targets(self, step: int) -> int:
        """Scored targets of a whole step, without reading it."""
        size = self.schedule.batch_size
        blocks = self._blocks_of(step * size, (step + 1) * size)
        return sum(int(block.targets[low:high].sum()) for block, (low, high) in blocks)

    def _blocks_of(self, low: int, high: int) -> list[tuple[_Block, tuple[int, int]]]:
        """The blocks that hold the samples [low, high), with the samples' lines in each."""
        numbers = range(low // BLOCK, -(-high // BLOCK))
        return [
            (self._block(number), (max(low - number * BLOCK, 0), min(high - number * BLOCK, BLOCK)))
            for number in numbers
        ]

    def _block(self, number: int) -> _Block:
        with self._lock:
            if number not in self._blocks:
                self._blocks[number] = self._lay_out(number)
                if len(self._blocks) > KEPT:
                    self._blocks.popitem(last=False)
            return self._blocks[number]

    def _lay_out(self, number: int) -> _Block:
        groups, rows = self.order.rows(number * BLOCK, (number + 1) * BLOCK)
        targets = np.empty_like(rows)
        for group in np.unique(groups).tolist():
            mine = np.flatnonzero(groups == group)
            targets[mine] = self._groups[group].targets(rows[mine])
        return _Block(self.spans(groups, rows), targets)

    def spans(self, groups: IntArray, rows: IntArray) -> Spans:
        """The slices that any rows of the plan are made of, line after line.

        Args:
            groups: Number of each row's group, in the order of the plan's.
            rows: Number of each row in its group.
        """
        nothing = np.empty(0, dtype=np.int64)
        parts = [(nothing, nothing, nothing, nothing)]
        for group in np.unique(groups).tolist():
            mine = np.flatnonzero(groups == group)
            spans = self._groups[group].spans(rows[mine])
            parts.append((mine[spans.lines], spans.slots, spans.positions, spans.sizes))
        columns = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        by_line = np.argsort(columns[0], kind="stable")
        return Spans(*(column[by_line] for column in columns))


def _in_one(parts: Sequence[Spans], low: int) -> Spans:
    """The slices of samples from `low` on that lie in several blocks, as if they lay in one."""
    first = low // BLOCK
    starts = [max(0, (first + number) * BLOCK - low) for number in range(len(parts))]
    lines = np.concatenate([part.lines + start for part, start in zip(parts, starts, strict=True)])
    others = (np.concatenate([getattr(part, name) for part in parts]) for name in ("slots", "positions", "sizes"))
    return Spans(lines, *others)


class TokenRows:
    """The stream of a split in its own order, for validation.

    Args:
        split: The documents.
        length: Ids a model sees at once; rows have one more.
        max_documents: Leaves out the documents after the first so many. Documents lie in the order of their hash, so
            these are a fair sample; None takes all.
    """

    def __init__(self, split: TokenSplit, length: int, max_documents: int | None = None) -> None:
        self.length = length
        self.num_documents = min(split.num_documents, split.num_documents if max_documents is None else max_documents)
        self.num_tokens = sum(split.extent(self.num_documents - 1)) if self.num_documents else 0
        self.num_bytes = 0
        for batch, start in zip(split.batches, split.document_starts.tolist(), strict=False):
            self.num_bytes += int(batch.num_bytes[: max(0, self.num_documents - start)].sum(dtype=np.int64))
        self._split = split
        starts = np.append(split.token_starts[split.token_starts < self.num_tokens], self.num_tokens)
        self._runs = Runs(length, starts, starts[:-1])

    @classmethod
    def open(cls, folder: Path, length: int, max_documents: int | None = None) -> TokenRows:
        """Opens one split of a tokens artifact, such as `tokens / "val"`.

        Raises:
            StepError: If a shard is not as it was written, or the ids do not fill a single row.
        """
        rows = cls(open_split(folder), length, max_documents)
        if rows.num_tokens <= length:
            raise _no_row(rows._split, length)
        return rows

    @property
    def num_rows(self) -> int:
        """Rows of the stream, a last one that is not full included."""
        return -(-max(0, self.num_tokens - 1) // self.length)

    def rows_sequential(self, batch_size: int) -> Iterator[IntArray]:
        """The whole stream in order: ids [up to batch_size, length + 1], the last row PAD-filled."""
        for start in range(0, self.num_rows, batch_size):
            yield self.windows(np.arange(start, min(start + batch_size, self.num_rows), dtype=np.int64))

    def windows(self, rows: IntArray) -> IntArray:
        """The ids of some rows: [len(rows), length + 1]; what lies past the end of the stream is PAD."""
        return self._split.read(self._runs.spans(rows), len(rows), self.length + 1)


def inputs_and_targets(rows: IntArray) -> tuple[IntArray, IntArray]:
    """Splits rows [B, length + 1] into inputs and targets [B, length]; a PAD target becomes -100 (not scored)."""
    targets = rows[:, 1:]
    return rows[:, :-1], np.where(targets == PAD, IGNORED, targets)


def _no_row(split: TokenSplit, length: int) -> StepError:
    return StepError(
        f"{split.num_documents} documents of {split.num_tokens} tokens do not fill one row of {length + 1}.",
        where="tokens",
        fix="crawl more pages, lower pretrain.length, or (for validation) raise tokens.min_val_documents",
    )
