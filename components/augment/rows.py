"""Where examples come from and go to: an instructions artifact, or JSON lines of {"text", "label"}.

Of a conversation the user's messages are varied and the assistant's stay, as the label of a text does. A row of a file
whose "split" is not "train" is for evaluation: it is passed on and never varied, like the held-out part of an
instructions artifact.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from components.errors import StepError
from components.instructions.files import content_id
from components.posttrain.dialogues import Instruction, hash_order, write_instructions
from components.posttrain.jsonl import Line, read_lines
from components.publish import publish, publish_bytes

Label: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Example:
    """What is varied.

    Attributes:
        id: Of the row it is from; the seed of its copies.
        texts: The texts to vary.
    """

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Copy:
    """A varied example.

    Attributes:
        parent: Id of the example.
        number: Number among its copies, from 1.
        operation: What was done.
        texts: The texts, as many as the example has.
    """

    parent: str
    number: int
    operation: str
    texts: tuple[str, ...]

    @property
    def id(self) -> str:
        """Id of the row it becomes."""
        return f"{self.parent}+{self.number}"


@dataclass
class Rows:
    """The rows of an artifact or file.

    Attributes:
        examples: Those for training, as what is varied of them.
        held_out: Texts of those for evaluation.
        repeated: Rows that say the same as another one, left out.
    """

    examples: list[Example] = field(default_factory=list)
    held_out: set[str] = field(default_factory=set)
    repeated: int = 0


@dataclass
class InstructionRows(Rows):
    """The rows of an instructions artifact, with their conversations by id."""

    artifact: Path = Path()
    conversations: dict[str, Instruction] = field(default_factory=dict)


@dataclass
class FileRows(Rows):
    """The rows of a file, by id."""

    train: dict[str, Mapping[str, object]] = field(default_factory=dict)
    others: dict[str, Mapping[str, object]] = field(default_factory=dict)


def read_instructions(artifact: Path) -> InstructionRows:
    """Reads an instructions artifact.

    Raises:
        StepError: If it has no train.arrow.
    """
    rows = InstructionRows(artifact=artifact)
    rows.conversations = {row.id: row for row in _instructions(artifact / "train.arrow")}
    rows.examples = [Example(row.id, _said(row)) for row in rows.conversations.values()]
    if (artifact / "held_out.arrow").exists():
        rows.held_out = {text for row in _instructions(artifact / "held_out.arrow") for text in _said(row)}
    return rows


def write_instruction_copies(output: Path, rows: InstructionRows, copies: Sequence[Copy]) -> None:
    """Writes an instructions artifact with copies beside their parents, and copies.jsonl that says which is which."""
    made = [_conversation(rows.conversations[copy.parent], copy) for copy in copies]
    write_instructions(output / "train.arrow", [*rows.conversations.values(), *made])
    if (rows.artifact / "held_out.arrow").exists():
        with publish(output / "held_out.arrow") as temporary:
            shutil.copyfile(rows.artifact / "held_out.arrow", temporary)
    told = [{"id": copy.id, "parent": copy.parent, "operation": copy.operation} for copy in copies]
    _write_lines(output / "copies.jsonl", {str(row["id"]): row for row in told})


def read_file(path: Path) -> FileRows:
    """Reads JSON lines: "text" and "label" (text, number or true/false), "id" and "split" where they are given.

    Raises:
        StepError: At the first row that cannot be used, or at an id that comes twice.
    """
    rows = FileRows()
    for line in read_lines(path):
        text, label = line.text("text"), _label(line)
        identity = line.text("id") if "id" in line.row else content_id([text, label])
        trains = line.row.get("split", "train") == "train"
        into = rows.train if trains else rows.others
        if "id" in line.row and (identity in rows.train or identity in rows.others):
            raise line.error(f'the id "{identity}" comes twice', "give every row its own id, or none")
        rows.repeated += identity in into
        into[identity] = {**line.row, "id": identity}
    rows.examples = [Example(identity, (str(row["text"]),)) for identity, row in rows.train.items()]
    rows.held_out = {str(row["text"]) for row in rows.others.values()}
    if not rows.examples:
        raise StepError("The file has no rows to train on.", str(path), 'add rows, or give some "split": "train"')
    return rows


def write_file_copies(output: Path, rows: FileRows, copies: Sequence[Copy]) -> None:
    """Writes train.jsonl, where a copy has its "parent" and the "operation", and held_out.jsonl if there are such."""
    made = {
        copy.id: {
            **rows.train[copy.parent],
            "id": copy.id,
            "text": copy.texts[0],
            "parent": copy.parent,
            "operation": copy.operation,
        }
        for copy in copies
    }
    _write_lines(output / "train.jsonl", {**rows.train, **made})
    if rows.others:
        _write_lines(output / "held_out.jsonl", rows.others)


def _instructions(path: Path) -> list[Instruction]:
    import pyarrow as pa

    if not path.is_file():
        raise StepError("There is no such file.", str(path), "give the folder that the instructions step wrote")
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_file(source).read_all().to_pylist()
    return [Instruction(row["id"], row["lang"], row["source"], tuple(row["messages"])) for row in rows]


def _said(row: Instruction) -> tuple[str, ...]:
    return tuple(message["content"] for message in row.messages if message["role"] == "user")


def _conversation(parent: Instruction, copy: Copy) -> Instruction:
    texts = iter(copy.texts)
    messages = [
        {**message, "content": next(texts)} if message["role"] == "user" else message for message in parent.messages
    ]
    return Instruction(copy.id, parent.lang, parent.source, tuple(messages))


def _label(line: Line) -> Label:
    value = line.row.get("label")
    if not isinstance(value, str | int | float | bool):
        raise line.error('"label" is missing or neither text, number nor true/false', 'add "label": "..."')
    return value


def _write_lines(path: Path, rows: Mapping[str, Mapping[str, object]]) -> None:
    """Writes JSON lines in the order of the hash of their id."""
    lines = [json.dumps(rows[key], ensure_ascii=False, sort_keys=True) + "\n" for key in sorted(rows, key=hash_order)]
    publish_bytes(path, "".join(lines).encode())
