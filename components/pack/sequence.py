"""The documents of each group in the order they are packed, in plain files of numbers that are mapped again.

One look at each batch of the split per pass: the first pass takes every document, the second those that stand at least
twice in an epoch, and so on, so that copies of a document lie far apart. Nothing is held but one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.pack.config import PackConfig
from components.shards.corpus import IntArray, TokenSplit
from components.shards.format import TokenBatch
from components.shards.plan import ALL


@dataclass
class Sequence:
    """The documents of one group, or its runs of neighbouring documents.

    Attributes:
        name: Name of the group.
        path: Where its numbers are, less the ending.
        documents: Documents, each counted once.
        tokens: Ids of those documents.
        repeated: Ids of the further times that documents stand in an epoch.
        length: Entries.
    """

    name: str
    path: Path
    documents: int = 0
    tokens: int = 0
    repeated: int = 0
    length: int = 0

    def read(self, start: int, end: int) -> tuple[IntArray, IntArray]:
        """Positions and sizes of the entries [start, end)."""
        columns = [
            np.fromfile(self.path.with_suffix(kind), np.int64, end - start, offset=8 * start)
            for kind in (".positions", ".sizes")
        ]
        return columns[0], columns[1]

    def append(self, positions: IntArray, sizes: IntArray) -> None:
        """Adds entries at the end."""
        for kind, values in ((".positions", positions), (".sizes", sizes)):
            with self.path.with_suffix(kind).open("ab") as file:
                file.write(np.ascontiguousarray(values, dtype=np.int64).tobytes())
        self.length += len(positions)


def write_sequences(split: TokenSplit, config: PackConfig, names: list[str], folder: Path) -> list[Sequence]:
    """Writes the documents of every group.

    Args:
        split: The documents.
        config: Grouping, repeats, and whether runs or documents are wanted.
        names: The groups; `[ALL]` where documents are not grouped.
        folder: An empty folder.
    """
    sequences = [Sequence(name, folder / f"{number:05d}") for number, name in enumerate(names)]
    for number in range(config.max_repeat if config.repeat != "none" else 1):
        for index, batch in enumerate(split.batches):
            _add_batch(sequences, split, index, batch, config, number)
    return sequences


def repeats_of(cluster_sizes: NDArray[np.int32], config: PackConfig) -> IntArray:
    """How often each document stands in an epoch."""
    sizes = np.maximum(cluster_sizes, 1).astype(np.float64)
    if config.repeat == "none":
        return np.ones(len(sizes), dtype=np.int64)
    times = np.sqrt(sizes) if config.repeat == "sqrt" else 1 + np.log2(sizes)
    return np.minimum(np.floor(times + 1e-9), config.max_repeat).astype(np.int64)


def _add_batch(
    sequences: list[Sequence], split: TokenSplit, index: int, batch: TokenBatch, config: PackConfig, number: int
) -> None:
    """Adds the documents of a batch that stand in an epoch more than `number` times."""
    positions = batch.offsets[:-1] - batch.offsets[0] + split.token_starts[index]
    sizes = np.diff(batch.offsets)
    wanted = repeats_of(batch.cluster_sizes, config) > number
    groups = _groups_of(batch, config, [sequence.name for sequence in sequences])
    for group in np.unique(groups[wanted]).tolist():
        mine = np.flatnonzero(wanted & (groups == group))
        sequence, tokens = sequences[group], int(sizes[mine].sum())
        if number == 0:
            sequence.documents += len(mine)
            sequence.tokens += tokens
        else:
            sequence.repeated += tokens
        join = config.strategy == "concat"
        sequence.append(*(_runs(positions[mine], sizes[mine]) if join else (positions[mine], sizes[mine])))


def _groups_of(batch: TokenBatch, config: PackConfig, names: list[str]) -> IntArray:
    if names == [ALL]:
        return np.zeros(len(batch.doc_ids), dtype=np.int64)
    column = batch.langs if config.group == "lang" else batch.sources
    found: IntArray = pc.index_in(column, value_set=pa.array(names, pa.string())).to_numpy().astype(np.int64)
    return found


def _runs(positions: IntArray, sizes: IntArray) -> tuple[IntArray, IntArray]:
    """Joins documents that lie side by side."""
    begins = np.flatnonzero(np.concatenate([[True], positions[1:] != positions[:-1] + sizes[:-1]]))
    return positions[begins], np.add.reduceat(sizes, begins)
