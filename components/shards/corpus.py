"""One split of a tokens artifact as a line of ids: every document has a place on it, and a read is a slice.

The documents of a split, in shard and doc_id order, lie one after the other on a line of ids. A position on that line
is the one coordinate that plans, the loader and its inverse share. Only the mapped batches' addresses are in memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.errors import StepError
from components.shards.format import TokenBatch, map_tokens
from components.shards.verify import check_tokens
from components.tokenizer.special import PAD

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Slices of the line of ids and where they go in some rows: arrays of one length.

    Attributes:
        lines: Which of the rows asked for, from 0; ascending.
        slots: Place of the slice's first id in its row.
        positions: Place of the slice's first id on the line.
        sizes: Ids of the slice.
    """

    lines: IntArray
    slots: IntArray
    positions: IntArray
    sizes: IntArray

    def of_lines(self, first: int, last: int) -> Spans:
        """The slices of the lines [first, last), which become lines 0 and so on."""
        low, high = np.searchsorted(self.lines, (first, last)).tolist()
        part = slice(low, high)
        return Spans(self.lines[part] - first, self.slots[part], self.positions[part], self.sizes[part])


class TokenSplit:
    """The documents of one split.

    Args:
        batches: Mapped batches, in order.

    Attributes:
        batches: Those that hold a document.
        document_starts: Number of the first document of each batch, and at the end the number of documents.
        token_starts: Position of the first id of each batch, and at the end the number of ids.
    """

    def __init__(self, batches: Sequence[TokenBatch]) -> None:
        self.batches = [batch for batch in batches if len(batch.doc_ids)]
        self.document_starts = np.cumsum([0, *(len(batch.doc_ids) for batch in self.batches)], dtype=np.int64)
        sizes = (int(batch.offsets[-1] - batch.offsets[0]) for batch in self.batches)
        self.token_starts = np.cumsum([0, *sizes], dtype=np.int64)
        self._values = [batch.values[int(batch.offsets[0]) : int(batch.offsets[-1])] for batch in self.batches]

    @classmethod
    def open(cls, tokens: Path, split: str, full: bool = False) -> TokenSplit:
        """Opens one split of a tokens artifact.

        Args:
            tokens: The artifact.
            split: "train", "val" or "test".
            full: Hashes every byte first; otherwise names, sizes and footers are compared.

        Raises:
            StepError: If a shard is not as it was written; names it.
        """
        meta = check_tokens(tokens, full, (split,))
        names = [entry["name"] for entry in meta["shards"][split]]
        return cls([batch for name in names for batch in map_tokens(tokens / split / name)])

    @property
    def num_documents(self) -> int:
        """Documents of the split."""
        return int(self.document_starts[-1])

    @property
    def num_tokens(self) -> int:
        """Ids of the split, `<|bos|>` and `<|eos|>` included."""
        return int(self.token_starts[-1])

    def read(self, spans: Spans, num_lines: int, width: int) -> IntArray:
        """Copies slices into rows: ids [num_lines, width]; what no slice fills is PAD."""
        out = np.full(num_lines * width, PAD, dtype=np.int64)
        batches = np.searchsorted(self.token_starts, spans.positions, side="right") - 1
        starts = spans.positions - self.token_starts[batches]
        places = spans.lines * width + spans.slots
        values = self._values
        for batch, start, place, size in zip(
            batches.tolist(), starts.tolist(), places.tolist(), spans.sizes.tolist(), strict=True
        ):
            out[place : place + size] = values[batch][start : start + size]
        return out.reshape(num_lines, width)

    def extent(self, number: int) -> tuple[int, int]:
        """Position of a document's first id, and the number of its ids."""
        batch, place = self._find(number)
        offsets = self.batches[batch].offsets
        start = int(self.token_starts[batch] + offsets[place] - offsets[0])
        return start, int(offsets[place + 1] - offsets[place])

    def doc_id(self, number: int) -> bytes:
        """The id of a document."""
        batch, place = self._find(number)
        doc_id: bytes = self.batches[batch].doc_ids[place].as_py()
        return doc_id

    def number_of(self, doc_id: bytes) -> int | None:
        """The number of a document, None if it is not in this split. Rows are sorted by id, so halving finds it."""
        number = bisect_left(range(self.num_documents), doc_id, key=self.doc_id)
        return number if number < self.num_documents and self.doc_id(number) == doc_id else None

    def documents_between(self, start: int, end: int) -> range:
        """Numbers of the documents that have ids at positions in [start, end), both on the line, start < end."""
        return range(self._document_at(start), self._document_at(end - 1) + 1)

    def _document_at(self, position: int) -> int:
        batch = int(np.searchsorted(self.token_starts, position, side="right")) - 1
        offsets = self.batches[batch].offsets
        inside = position - int(self.token_starts[batch]) + int(offsets[0])
        return int(self.document_starts[batch]) + int(np.searchsorted(offsets, inside, side="right")) - 1

    def _find(self, number: int) -> tuple[int, int]:
        batch = int(np.searchsorted(self.document_starts, number, side="right")) - 1
        return batch, number - int(self.document_starts[batch])


def open_split(folder: Path) -> TokenSplit:
    """Opens the folder of one split: `tokens / "val"`.

    Raises:
        StepError: As `TokenSplit.open`.
    """
    if not folder.is_dir():
        raise StepError("There are no token shards.", where=str(folder), fix="give the folder of a tokens artifact")
    return TokenSplit.open(folder.parent, folder.name)
