"""Pairs as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.errors import StepError
from components.pairs.table import read_pairs
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import EOS


@dataclass(frozen=True)
class Encoded:
    """One pair.

    Attributes:
        id: Of the pair.
        source: Ids read, `EOS` at their end.
        target: Ids to be written, `EOS` at their end.
    """

    id: str
    source: list[int]
    target: list[int]

    @property
    def size(self) -> int:
        """Tokens of both."""
        return len(self.source) + len(self.target)


def encode_source(tokenizer: TextTokenizer, text: str, max_length: int) -> list[int]:
    """Ids of a source; what is longer than the model reads is cut off."""
    return [*tokenizer.encode(text)[: max_length - 1], EOS]


def read_encoded(
    path: Path, tokenizer: TextTokenizer, max_length: int, limit: int | None = None
) -> tuple[list[Encoded], int]:
    """Reads and encodes pairs.

    Args:
        path: A table of pairs.
        tokenizer: Of the model.
        max_length: Longest source and longest target, with the token that ends it.
        limit: Pairs to read, from the first; None reads all.

    Returns:
        The pairs in the order of the table, and how many were left out because a side is too long.

    Raises:
        StepError: If the table cannot be read or no pair is left.
    """
    rows = read_pairs(path, limit)
    sides = [tokenizer.encode_batch(texts) for texts in ([row.source for row in rows], [row.target for row in rows])]
    pairs = [Encoded(row.id, [*source, EOS], [*target, EOS]) for row, source, target in zip(rows, *sides, strict=True)]
    kept = [pair for pair in pairs if max(len(pair.source), len(pair.target)) <= max_length]
    if not kept:
        raise StepError(
            f"None of {len(rows)} pairs has sides of at most {max_length} tokens.",
            where=f"{path}, translate.model.max_length={max_length}",
            fix="raise translate.model.max_length, or give shorter pairs",
        )
    return kept, len(rows) - len(kept)
