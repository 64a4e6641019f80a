"""From a document to the steps that read it, and from a step to the documents it read.

Order and plan are pure functions that can be walked both ways, so no run has to keep a log of what it read: tokens,
plan and schedule (`order.json` beside every pretrained model) tell it at any time.

    visits(tokens, plan, doc_id, schedule, num_steps) -> list[Visit]
    documents_at(tokens, plan, schedule, step) -> list[Seen]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.shards.corpus import Spans
from components.shards.loader import Loader
from components.shards.schedule import Schedule


@dataclass(frozen=True)
class Visit:
    """One time that a step read a piece of a document.

    Attributes:
        step: The step, counted from 0.
        sample: Which row of the step's batch it was.
        group: Group of the row; empty where documents are not grouped.
        row: The row of that group.
        slot: Place of the piece's first id in the row.
        offset: Place of that id in the document, `<|bos|>` being 0.
        size: Ids of the piece.
    """

    step: int
    sample: int
    group: str
    row: int
    slot: int
    offset: int
    size: int


@dataclass(frozen=True)
class Seen:
    """One piece of a document that a step read.

    Attributes:
        doc_id: Id of the document.
        visit: When and where.
    """

    doc_id: bytes
    visit: Visit


def visits(tokens: Path, plan: Path | None, doc_id: bytes, schedule: Schedule, num_steps: int) -> list[Visit]:
    """Which steps read a document.

    Args:
        tokens: Tokens artifact.
        plan: Pack artifact, None where there was none.
        doc_id: Id of the document.
        schedule: The run's order.
        num_steps: Steps that the run did.

    Returns:
        In the order they happened; empty if the document is not in the training split, or was not read yet.

    Raises:
        StepError: If tokens or plan are damaged or do not belong together.
    """
    return visits_in(Loader.open(tokens, schedule, plan), doc_id, num_steps)


def documents_at(tokens: Path, plan: Path | None, schedule: Schedule, step: int) -> list[Seen]:
    """Which documents a step read.

    Args:
        tokens: Tokens artifact.
        plan: Pack artifact, None where there was none.
        schedule: The run's order.
        step: The step, counted from 0.

    Returns:
        In the order of the rows of the batch and of the ids within them.

    Raises:
        StepError: If tokens or plan are damaged or do not belong together.
    """
    return documents_in(Loader.open(tokens, schedule, plan), step)


def visits_in(loader: Loader, doc_id: bytes, num_steps: int) -> list[Visit]:
    """`visits`, of tokens and plan that are open already."""
    number = loader.split.number_of(doc_id)
    if number is None:
        return []
    position, size = loader.split.extent(number)
    batch_size = loader.schedule.batch_size
    found: list[Visit] = []
    for group, (name, rows) in enumerate(loader.plan.groups.items()):
        for row in rows.holding(position, size).tolist():
            pieces = _pieces(rows.spans(np.array([row])), position, size)
            for sample in loader.order.samples(group, row, num_steps * batch_size):
                step, place = divmod(sample, batch_size)
                found += [Visit(step, place, name, row, *piece) for piece in pieces]
    return sorted(found, key=lambda visit: (visit.step, visit.sample, visit.slot))


def documents_in(loader: Loader, step: int) -> list[Seen]:
    """`documents_at`, of tokens and plan that are open already."""
    split, groups = loader.split, list(loader.plan.groups.items())
    size = loader.schedule.batch_size
    numbers, rows = loader.order.rows(step * size, (step + 1) * size)
    seen: list[Seen] = []
    for sample, (group, row) in enumerate(zip(numbers.tolist(), rows.tolist(), strict=True)):
        name, of_group = groups[group]
        spans = of_group.spans(np.array([row]))
        ends = spans.positions + spans.sizes
        for place, (start, end) in enumerate(zip(spans.positions.tolist(), ends.tolist(), strict=True)):
            one = Spans(
                *(array[place : place + 1] for array in (spans.lines, spans.slots, spans.positions, spans.sizes))
            )
            for number in split.documents_between(start, end):
                [piece] = _pieces(one, *split.extent(number))
                seen.append(Seen(split.doc_id(number), Visit(step, sample, name, row, *piece)))
    return seen


def document_ids(loader: Loader, step: int) -> list[str]:
    """Ids in hex of the documents that a step reads, each once, in the order of its rows."""
    return list(dict.fromkeys(seen.doc_id.hex() for seen in documents_in(loader, step)))


def _pieces(spans: Spans, position: int, size: int) -> list[tuple[int, int, int]]:
    """Slot, offset and size of what the slices of a row hold of the document at [position, position + size)."""
    begin = np.maximum(spans.positions, position)
    sizes = np.minimum(spans.positions + spans.sizes, position + size) - begin
    slots, offsets = spans.slots + begin - spans.positions, begin - position
    return [(int(slots[i]), int(offsets[i]), int(sizes[i])) for i in np.flatnonzero(sizes > 0)]
