"""The tables of post-training: conversations to imitate, pairs to prefer, prompts to answer; their rows and files.

Plain Arrow IPC files, one per split, uncompressed so that they can be mapped. Rows lie in the order of a hash of their
id: any first part of a file is a fair sample of it, and the bytes depend on the rows alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import pyarrow as pa

from components.publish import publish

Messages: TypeAlias = tuple[dict[str, str], ...]

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_HEAD = [("id", pa.string()), ("lang", pa.string()), ("source", pa.string())]
INSTRUCTIONS = pa.schema([*_HEAD, ("messages", _MESSAGES)])
PROMPTS = pa.schema([*_HEAD, ("prompt", _MESSAGES)])
PREFERENCES = pa.schema([*PROMPTS, ("chosen", pa.string()), ("rejected", pa.string()), ("margin", pa.float32())])


class Identified(Protocol):
    """A row that a table can put into its order."""

    @property
    def id(self) -> str:
        """Unique in its table."""


def ids_of(rows: Iterable[Identified]) -> list[str]:
    """The ids of rows, each once, in their order: what a task names when a batch is left out."""
    return list(dict.fromkeys(row.id for row in rows))


@dataclass(frozen=True)
class Instruction:
    """A conversation whose assistant is to be imitated.

    Attributes:
        id: Unique in its artifact.
        lang: Language code.
        source: Where it is from, such as "chitchat".
        messages: Each with "role" (system, user, assistant) and "content"; the last is the assistant's.
    """

    id: str
    lang: str
    source: str
    messages: Messages


@dataclass(frozen=True)
class Prompt:
    """A conversation up to where the assistant speaks: the last message is the user's."""

    id: str
    lang: str
    source: str
    prompt: Messages


@dataclass(frozen=True)
class Preference:
    """Two replies to one prompt, of which people prefer the first.

    Attributes:
        margin: How much they prefer it, as a share of the whole scale: 0 to 1.
    """

    id: str
    lang: str
    source: str
    prompt: Messages
    chosen: str
    rejected: str
    margin: float


def write_instructions(path: Path, rows: Iterable[Instruction]) -> None:
    """Writes a file of conversations."""
    write_hashed(path, rows, INSTRUCTIONS)


def write_prompts(path: Path, rows: Iterable[Prompt]) -> None:
    """Writes a file of prompts."""
    write_hashed(path, rows, PROMPTS)


def write_preferences(path: Path, rows: Iterable[Preference]) -> None:
    """Writes a file of pairs."""
    write_hashed(path, rows, PREFERENCES)


def user_says(text: str) -> Messages:
    """A conversation of one message, the user's."""
    return ({"role": "user", "content": text},)


def hash_order(identity: str) -> bytes:
    """Sort key that puts rows in an order unrelated to where they are from."""
    return hashlib.sha256(identity.encode()).digest()


def write_hashed(path: Path, rows: Iterable[Identified], schema: pa.Schema) -> None:
    """Writes a table of rows with ids, in the order of a hash: any first part of it is a fair sample."""
    ordered = sorted(rows, key=lambda row: hash_order(row.id))
    columns = {name: [getattr(row, name) for row in ordered] for name in schema.names}
    with publish(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        out.write_table(pa.table(columns, schema=schema), max_chunksize=4096)
