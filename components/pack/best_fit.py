"""Best-fit packing from lengths alone: rows begin with a document wherever they can, and little is cut.

A document longer than a row first gives whole rows of its own; its rest, like every shorter document, is a piece. Rows
are then filled with pieces, the largest first and always the largest that still fits (best-fit decreasing, as in
"Fewer Truncations Improve Language Modeling", Ding et al. 2024; nanochat crops instead and loses a third of its
tokens). When nothing fits into what is left of a row, the shortest piece is cropped to it if that keeps more than it
loses; otherwise the rest of the row is PAD. Both are counted.

Pieces of a size wait in one line, in the order of the corpus, and which sizes have any is one bit each of an integer:
the largest that fits is a mask and a bit length.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from components.shards.corpus import IntArray


@dataclass
class Packed:
    """Rows as lists of slices.

    Attributes:
        counts: Slices of each row.
        targets: Scored targets of each row.
        positions: Position of each slice's first id.
        sizes: Ids of each slice.
        used: Different ids that lie in a row.
        cropped: Ids that lie in none.
        padding: Places of rows that no id fills.
    """

    counts: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    used: int = 0
    cropped: int = 0
    padding: int = 0

    def add(self, slices: list[tuple[int, int, bool]], width: int) -> None:
        """Adds a row of slices (position, size, whether it begins its document)."""
        filled = sum(size for _, size, _ in slices)
        goes_on = sum(not begins for _, _, begins in slices)
        masked = sum(not begins for _, _, begins in slices[1:])  # the first id of a row is no target anyway
        self.counts.append(len(slices))
        self.targets.append(filled - 1 - masked)
        self.positions += [position for position, _, _ in slices]
        self.sizes += [size for _, size, _ in slices]
        self.used += filled - goes_on  # the first id of a slice that goes on is the last of the slice before
        self.padding += width - filled


def pack_alone(positions: IntArray, sizes: IntArray, length: int) -> Packed:
    """Gives each document rows of its own, as many as it needs.

    Args:
        positions: Position of each document's first id.
        sizes: Ids of each document, at least 2.
        length: Tokens of a row.
    """
    packed = Packed()
    for position, size in zip(positions.tolist(), sizes.tolist(), strict=True):
        for start in range(0, size - 1, length):
            packed.add([(position + start, min(length + 1, size - start), start == 0)], length + 1)
    return packed


def pack_best_fit(positions: IntArray, sizes: IntArray, length: int) -> Packed:
    """Packs documents, see the module.

    Args:
        positions: Position of each document's first id.
        sizes: Ids of each document, at least 2.
        length: Tokens of a row.
    """
    packed, width = Packed(), length + 1
    waiting: list[deque[tuple[int, bool]]] = [deque() for _ in range(width + 1)]
    present = 0  # bit n is set while a piece of n ids waits
    for position, size in zip(positions.tolist(), sizes.tolist(), strict=True):
        rest = _cut(packed, position, size, length)
        start = position + size - rest
        waiting[rest].append((start, start == position))
        present |= 1 << rest
    while present:
        row: list[tuple[int, int, bool]] = []
        room = width
        while room and present:
            size = (present & ((1 << (room + 1)) - 1)).bit_length() - 1
            if size < 1:
                size = (present & -present).bit_length() - 1  # the shortest
                if 2 * room <= size:
                    break
                packed.cropped += size - room
            position, begins = waiting[size].popleft()
            if not waiting[size]:
                present ^= 1 << size
            row.append((position, min(size, room), begins))
            room -= min(size, room)
        packed.add(row, width)
    return packed


def _cut(packed: Packed, position: int, size: int, length: int) -> int:
    """Gives a document that is longer than a row whole rows; returns the ids of its rest, at most `length + 1`."""
    start = 0
    while size - start > length + 1:
        packed.add([(position + start, length + 1, start == 0)], length + 1)
        start += length
    return size - start
