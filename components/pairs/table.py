"""The rows of the pairs step, and how they are split and written.

Every source is there once, and a target decides by its hash on which side all its pairs are: so a model cannot have
seen a held-out text, neither as a question nor as an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.documents import Document, Outcome, make_doc_id, write_shard, write_summary
from components.posttrain.dialogues import hash_order, write_hashed
from components.posttrain.prompts import read_table

PAIRS = pa.schema([("id", pa.string()), ("kind", pa.string()), ("source", pa.string()), ("target", pa.string())])


@dataclass(frozen=True)
class Pair:
    """One source and what is to be written of it.

    Attributes:
        kind: What sort of pair it is, such as "date"; scores are told apart by it.
        source: What is read.
        target: What is to be written.
    """

    kind: str
    source: str
    target: str

    @property
    def id(self) -> str:
        """Hash of both texts."""
        return hashlib.sha256(f"{self.source}\x1f{self.target}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Split:
    """Pairs to train on and pairs to score; how many were left out as repetitions or because they are too long."""

    train: list[Pair]
    held_out: list[Pair]
    repeated: int
    too_long: int


def split_pairs(pairs: Iterable[Pair], fraction: float, max_chars: int) -> Split:
    """Takes repetitions out and splits the rest.

    Args:
        pairs: All pairs; of several with one source the first is taken.
        fraction: Share of the targets to hold out; at least one, and never all.
        max_chars: Longest source and target.
    """
    first: dict[str, Pair] = {}
    count = too_long = 0
    for pair in pairs:
        count += 1
        if max(len(pair.source), len(pair.target)) > max_chars:
            too_long += 1
        else:
            first.setdefault(pair.source, pair)
    targets = sorted({pair.target for pair in first.values()}, key=hash_order)
    held = sum(int.from_bytes(hash_order(target)[:4], "big") < fraction * 2**32 for target in targets)
    chosen = set(targets[: min(max(1, held), len(targets) - 1)])
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in first.values():
        sides[pair.target in chosen].append(pair)
    return Split(*sides, repeated=count - too_long - len(first), too_long=too_long)


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes a table, in the order of a hash: any first part of it is a fair sample."""
    write_hashed(path, pairs, PAIRS)


def read_pairs(path: Path, limit: int | None = None) -> list[Pair]:
    """The pairs of a table, or its first ones.

    Raises:
        StepError: If the file is not there or is damaged.
    """
    return [Pair(str(row["kind"]), str(row["source"]), str(row["target"])) for row in read_table(path)[:limit]]


def write_documents(folder: Path, pairs: Iterable[Pair]) -> None:
    """Writes the texts of both sides as documents, for the step that trains a tokenizer."""
    outcome = Outcome()
    for pair in pairs:
        for side, text in (("source", pair.source), ("target", pair.target)):
            url = f"pair:{pair.id}/{side}"
            outcome.kept.append(Document(make_doc_id("pairs", url, text.encode()), "pairs", url, "und", "", text))
    write_summary(folder, [write_shard(folder, 0, outcome)])
