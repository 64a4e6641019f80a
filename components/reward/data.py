"""Preference pairs as token ids: two whole conversations that differ in the last reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.errors import StepError
from components.posttrain.chat_format import render
from components.posttrain.prompts import read_table
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import PAD


@dataclass(frozen=True)
class Pair:
    """Two rendered conversations, each up to and with the closing token of the reply.

    Attributes:
        chosen: Ids with the reply people prefer.
        rejected: Ids with the other one.
        margin: How much they prefer it, 0 to 1.
        source: Where the pair is from.
        id: Of its row.
    """

    chosen: list[int]
    rejected: list[int]
    margin: float
    source: str
    id: str

    @property
    def length(self) -> int:
        """Tokens of the longer side."""
        return max(len(self.chosen), len(self.rejected))


def read_pairs(
    path: Path, tokenizer: TextTokenizer, max_length: int, limit: int | None = None
) -> tuple[list[Pair], int]:
    """Reads and renders pairs.

    Args:
        path: A table of preferences.
        tokenizer: Of the model.
        max_length: Longest conversation; a longer one loses its oldest messages, the same on both sides.
        limit: Rows to read, from the first; None reads all.

    Returns:
        The pairs in the order of the table, and how many were left out because even one message and the reply are
        too long.

    Raises:
        StepError: If the file cannot be read, a row misses a side, or no pair is left.
    """
    rows = read_table(path)[:limit]
    pairs = [pair for row in rows if (pair := _pair(row, tokenizer, max_length, path)) is not None]
    if not pairs:
        raise StepError(
            f"None of {len(rows)} preference pairs fits in {max_length} tokens.",
            where=str(path),
            fix=f"raise reward.max_length={max_length}, or give pairs with shorter replies",
        )
    return pairs, len(rows) - len(pairs)


def _pair(row: Mapping[str, object], tokenizer: TextTokenizer, max_length: int, path: Path) -> Pair | None:
    for side in ("prompt", "chosen", "rejected"):
        if not row.get(side):
            raise StepError(
                f"A preference pair has no {side} side.",
                where=f"{path}, row id {row.get('id')}",
                fix=f"give every pair a prompt and two replies: fill in {side} or delete the row",
            )
    prompt: Sequence[Mapping[str, str]] = row["prompt"]  # type: ignore[assignment]
    replies = [{"role": "assistant", "content": str(row[side])} for side in ("chosen", "rejected")]
    for first in range(len(prompt)):
        chosen, rejected = (render(tokenizer, [*prompt[first:], reply])[0] for reply in replies)
        if max(len(chosen), len(rejected)) <= max_length:
            margin = float(str(row.get("margin") or 0.0))
            return Pair(chosen, rejected, margin, str(row["source"]), str(row["id"]))
    return None


def lay_out(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """Lays pairs out as a batch of twice as many rows: the chosen sides first, then the rejected ones.

    Returns:
        tokens_BT (int64, padded on the right with PAD), last_B (index of each row's last token), margin_P (per pair).
        No pairs give one row of padding, so that every rank can make equally many passes.
    """
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs] or [[PAD]]
    tokens_BT = torch.full((len(rows), max(map(len, rows))), PAD)
    for index, row in enumerate(rows):
        tokens_BT[index, : len(row)] = torch.tensor(row)
    last_B = torch.tensor([len(row) - 1 for row in rows])
    return {"tokens_BT": tokens_BT, "last_B": last_B, "margin_P": torch.tensor([pair.margin for pair in pairs])}
