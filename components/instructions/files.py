"""Examples out of a file: JSON lines of `{"messages": [{"role": ..., "content": ...}, ...]}`, the assistant last."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from components.errors import StepError
from components.posttrain.dialogues import Instruction, Messages
from components.posttrain.jsonl import read_lines

_LEAST_ROWS = 2


def file_instructions(path: Path, fraction: float) -> tuple[list[Instruction], list[Instruction], int]:
    """Reads the examples of a file.

    Args:
        path: The file. Beside "messages", "lang" and "source" are read where they are given.
        fraction: Share to hold out; at least one row.

    Returns:
        Rows to train on, held-out rows, and the number of repeated rows that were left out.

    Raises:
        StepError: At the first row that cannot be used, or if there are fewer than two different ones.
    """
    counts: Counter[str] = Counter()
    rows: dict[str, Instruction] = {}
    for line in read_lines(path):
        messages = line.messages("messages", "assistant")
        identity = content_id(messages)
        counts[identity] += 1
        lang = line.text("lang") if "lang" in line.row else guess_lang(messages)
        source = line.text("source") if "source" in line.row else path.stem
        rows[identity] = Instruction(identity, lang, source, messages)
    if len(rows) < _LEAST_ROWS:
        raise StepError(
            f"The file has {len(rows)} different dialogues; one to train on and one to hold out are the least.",
            where=str(path),
            fix="add dialogues",
        )
    held = held_out_ids(rows, fraction)
    train = [row for identity, row in rows.items() if identity not in held]
    return train, [rows[identity] for identity in sorted(held)], counts.total() - len(rows)


def content_id(value: object) -> str:
    """Identity of a row: the hash of its content."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def held_out_ids(identities: Iterable[str], fraction: float) -> set[str]:
    """Which of some hex identities to hold out: each by its own value, but at least one and never all."""
    ordered = sorted(identities)
    count = sum(int(identity[:8], 16) < fraction * 2**32 for identity in ordered)
    return set(ordered[: min(max(1, count), len(ordered) - 1)])


def guess_lang(messages: Messages) -> str:
    """Language of a dialogue: "zh" where three letters of ten are Chinese characters, else "und" (undetermined)."""
    text = "".join(message["content"] for message in messages)
    num_letters = len(re.findall(r"[^\W\d_]", text))
    return "zh" if len(re.findall(r"[\u4e00-\u9fff]", text)) >= max(1, 0.3 * num_letters) else "und"
