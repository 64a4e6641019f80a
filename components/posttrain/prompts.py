"""What a model is asked: the rows of a prompt table, rendered as ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.errors import StepError
from components.posttrain.chat_format import render_prompt
from components.tokenizer.load import TextTokenizer


@dataclass(frozen=True)
class Prompt:
    """One conversation up to where the assistant speaks.

    Attributes:
        id: Of the conversation it comes from.
        lang: Language code.
        source: Where it comes from.
        text: What the user said last.
        ids: The whole conversation in the chat format, the assistant's role token at its end.
    """

    id: str
    lang: str
    source: str
    text: str
    ids: list[int]


def read_table(path: Path) -> list[dict[str, object]]:
    """The rows of an Arrow IPC file.

    Raises:
        StepError: If the file is not there or is damaged.
    """
    try:
        rows: list[dict[str, object]] = pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise StepError(
            f"A table cannot be read: {error}.",
            where=str(path),
            fix="delete the artifact it belongs to and run again; it is made anew",
        ) from error
    return rows


def read_prompts(path: Path, tokenizer: TextTokenizer, max_tokens: int) -> tuple[list[Prompt], int]:
    """Reads prompts and leaves out those that are too long.

    Args:
        path: Table with id, lang, source and prompt (messages with role and content).
        tokenizer: Of the model that will answer.
        max_tokens: Longest prompt, its role tokens included.

    Returns:
        The prompts in the order of the table, and how many were left out.

    Raises:
        StepError: If the file cannot be read or no prompt is left.
    """
    rows = read_table(path)
    prompts = [prompt for prompt in (_prompt(row, tokenizer) for row in rows) if len(prompt.ids) <= max_tokens]
    if not prompts:
        raise StepError(
            f"None of {len(rows)} prompts has at most {max_tokens} tokens.",
            where=str(path),
            fix="raise max_prompt_tokens, or give shorter prompts",
        )
    return prompts, len(rows) - len(prompts)


def _prompt(row: Mapping[str, object], tokenizer: TextTokenizer) -> Prompt:
    messages: Sequence[Mapping[str, str]] = row["prompt"]  # type: ignore[assignment]
    ids = render_prompt(tokenizer, messages)
    return Prompt(str(row["id"]), str(row["lang"]), str(row["source"]), messages[-1]["content"], ids)
