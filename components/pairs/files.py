"""Pairs out of a file: JSON lines of `{"source": text, "target": text}`, and "kind" where scores are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.pairs.table import Pair
from components.posttrain.jsonl import read_lines


def file_pairs(path: Path) -> Iterator[Pair]:
    """Reads the pairs of a file.

    Raises:
        StepError: At the first row that cannot be used, with file and line.
    """
    for line in read_lines(path):
        kind = line.text("kind") if "kind" in line.row else path.stem
        yield Pair(kind, line.text("source").strip(), line.text("target").strip())
