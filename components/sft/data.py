"""Dialogues as token ids with the mask of what is learned, cut where they are too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from components.errors import StepError
from components.model.loss import IGNORED
from components.posttrain.chat_format import render
from components.posttrain.prompts import read_table
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import PAD


@dataclass(frozen=True)
class Dialogue:
    """One rendered conversation, shifted: what the model reads and what it should say next.

    Attributes:
        id: Of its row.
        inputs: Ids read.
        targets: The id after each, or `IGNORED` where that is no word of the assistant's.
    """

    id: str
    inputs: list[int]
    targets: list[int]

    @property
    def num_scored(self) -> int:
        """Tokens that count in the loss."""
        return sum(target != IGNORED for target in self.targets)


def read_dialogues(
    path: Path, tokenizer: TextTokenizer, max_length: int, limit: int | None = None
) -> tuple[list[Dialogue], int]:
    """Reads and renders conversations.

    Args:
        path: A table of instructions.
        tokenizer: Of the model.
        max_length: Longest input; a longer conversation is cut after the last reply that fits.
        limit: Rows to read, from the first; None reads all.

    Returns:
        The dialogues in the order of the table, and how many were left out because not one reply fits.

    Raises:
        StepError: If the file cannot be read, a row is no conversation, or no dialogue is left.
    """
    rows = read_table(path)[:limit]
    dialogues = [dialogue for row in rows if (dialogue := _dialogue(row, tokenizer, max_length, path)) is not None]
    if not dialogues:
        raise StepError(
            f"None of {len(rows)} dialogues has a reply within {max_length} tokens.",
            where=str(path),
            fix=f"raise sft.max_length={max_length}, or give instructions with shorter turns",
        )
    return dialogues, len(rows) - len(dialogues)


def _dialogue(row: Mapping[str, object], tokenizer: TextTokenizer, max_length: int, path: Path) -> Dialogue | None:
    messages: Sequence[Mapping[str, str]] = row["messages"]  # type: ignore[assignment]
    try:
        ids, mask = render(tokenizer, messages)
    except (ValueError, AttributeError, TypeError) as error:
        raise StepError(
            f"A dialogue cannot be rendered: {error}.",
            where=f"{path}, row id {row.get('id')}",
            fix="give every message a role (system, user or assistant) and a content",
        ) from error
    end = min(len(ids), max_length + 1)
    # The mask covers a reply with its closing token: where it ends, a whole reply has just been said.
    while end > 0 and not (mask[end - 1] and (end == len(ids) or not mask[end])):
        end -= 1
    if end == 0:
        return None
    targets = [token if learned else IGNORED for token, learned in zip(ids[1:end], mask[1:end], strict=True)]
    return Dialogue(str(row["id"]), ids[: end - 1], targets)


def lay_out(rows: Sequence[Sequence[Dialogue]], length: int) -> dict[str, Tensor]:
    """Lays packed rows out as a batch.

    Args:
        rows: The dialogues of each row; an empty row is all padding.
        length: Tokens of a row.

    Returns:
        tokens_BT, targets_BT and segments_BT, int64, [rows, length]. Padding is a segment of its own, not scored.
    """
    shape = (len(rows), length)
    tokens_BT, targets_BT = torch.full(shape, PAD), torch.full(shape, IGNORED)
    segments_BT = torch.zeros(shape, dtype=torch.int64)
    for index, dialogues in enumerate(rows):
        start = 0
        for number, dialogue in enumerate(dialogues, start=1):
            end = start + len(dialogue.inputs)
            tokens_BT[index, start:end] = torch.tensor(dialogue.inputs)
            targets_BT[index, start:end] = torch.tensor(dialogue.targets)
            segments_BT[index, start:end] = number
            start = end
    return {"tokens_BT": tokens_BT, "targets_BT": targets_BT, "segments_BT": segments_BT}
