"""The evaluation items: held-out dialogues and pairs of ours, and people's own benchmarks.

    instructions/held_out.arrow                          each dialogue; its turns are the parts
    preferences/held_out.arrow, prompts_held_out.arrow   each pair, each prompt
    benchmarks                                           a file of JSON lines, or a folder with some (`*.jsonl`)

A row of a benchmark is `{"id": ..., "question" or "text": ..., "options": [...], "answer": ...}`. Only one of question
and text is needed. `options` may be a list or an object of texts; `answer` is a text, or the number (from 0), letter or
key of an option. Other fields are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.errors import StepError
from components.posttrain.jsonl import Line, read_lines

_SPEAKERS = ("user", "assistant")  # a system prompt is a form of words


@dataclass(frozen=True)
class Item:
    """One thing a model is judged by.

    Attributes:
        id: Where it is from and which one: "instructions/4711".
        parts: Its texts, each of which may stand anywhere: question, options, turns.
        answer: What follows the first part, where that alone is too short; empty if there is none.
        is_question: Whether the first part is what is asked, so that it alone is a leak even if it is short. A turn of
            a dialogue is not.
    """

    id: str
    parts: tuple[str, ...]
    answer: str = ""
    is_question: bool = False


def read_items(instructions: Path | None, preferences: Path | None, benchmarks: Path | None) -> list[Item]:
    """All items, in a fixed order.

    Raises:
        StepError: If there is none, or a benchmark's row cannot be used; names file and line.
    """
    items: list[Item] = []
    if instructions is not None:
        items += _dialogues(instructions / "held_out.arrow")
    if preferences is not None:
        items += _pairs(preferences / "held_out.arrow")
        items += _prompts(preferences / "prompts_held_out.arrow")
    if benchmarks is not None:
        items += _benchmarks(benchmarks)
    if not items:
        raise StepError(
            "decontaminate was given no evaluation item to look for.",
            where="its inputs instructions, preferences and benchmarks",
            fix="give at least one of them, or leave the step out",
        )
    return items


def _dialogues(path: Path) -> Iterator[Item]:
    for row in _rows(path):
        yield Item(f"instructions/{row['id']}", _turns(row["messages"]))


def _pairs(path: Path) -> Iterator[Item]:
    for row in _rows(path):
        yield Item(f"preferences/{row['id']}", (*_turns(row["prompt"]), str(row["chosen"]), str(row["rejected"])))


def _prompts(path: Path) -> Iterator[Item]:
    for row in _rows(path):
        yield Item(f"prompts/{row['id']}", _turns(row["prompt"]))


def _rows(path: Path) -> list[dict[str, object]]:
    with pa.memory_map(str(path)) as source:
        rows: list[dict[str, object]] = pa.ipc.open_file(source).read_all().to_pylist()
    return sorted(rows, key=lambda row: str(row["id"]))


def _turns(messages: object) -> tuple[str, ...]:
    if not isinstance(messages, list):
        raise ValueError("messages are no list")
    return tuple(message["content"] for message in messages if message["role"] in _SPEAKERS)


def _benchmarks(path: Path) -> Iterator[Item]:
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        fix = 'put files of JSON lines there: {"question": "...", "options": ["..."], "answer": "..."}'
        raise StepError("The folder of benchmarks holds no *.jsonl file.", where=str(path), fix=fix)
    for file in files:
        for line in read_lines(file):
            yield _benchmark_item(line, file.relative_to(path).as_posix() if path.is_dir() else file.name)


def _benchmark_item(line: Line, name: str) -> Item:
    key = "question" if "question" in line.row else "text"
    options = _options(line)
    identity = line.row.get("id", line.number)
    return Item(f"{name}/{identity}", (line.text(key), *options.values()), _answer(line, options), is_question=True)


def _options(line: Line) -> dict[str, str]:
    """The options by letter or key."""
    value = line.row.get("options", [])
    if isinstance(value, list):
        value = {chr(ord("A") + number): text for number, text in enumerate(value)}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise line.error('"options" is no list of texts', 'write {"options": ["...", "..."]}, or leave it out')
    return {str(letter): text for letter, text in value.items()}


def _answer(line: Line, options: Mapping[str, str]) -> str:
    value = line.row.get("answer", "")
    if isinstance(value, int) and not isinstance(value, bool) and options:
        if not 0 <= value < len(options):
            raise line.error(f'"answer" is option {value} of {len(options)}', "count options from 0")
        return list(options.values())[value]
    if value is None or isinstance(value, bool | list | Mapping):
        return ""  # yes or no, or several: nothing that would follow the question as a text
    return options.get(str(value), str(value))
