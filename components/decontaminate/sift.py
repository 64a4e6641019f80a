"""Searches one shard, and writes it again without what was found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from components.arrow_files import TupleWriter
from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.index import Index, open_index
from components.decontaminate.match import Leak, find_leaks, without
from components.documents import Document, Dropped, ShardWriter, iter_shard
from components.shardwise import Part

CUTS = pa.schema([("doc_id", pa.binary(16)), ("item", pa.string()), ("chars", pa.int64()), ("coverage", pa.float64())])


@dataclass
class _Found:
    """What a shard held: for each item the documents and the most of it, and the sums."""

    items: dict[int, tuple[int, float]] = field(default_factory=dict)
    documents: int = 0
    chars: int = 0

    def add(self, leaks: Sequence[Leak]) -> None:
        self.documents += 1
        for leak in leaks:
            documents, most = self.items.get(leak.item, (0, 0.0))
            self.items[leak.item] = documents + 1, max(most, leak.coverage)


def sift(path: Path, index: int, tables: Path, items: Path, config: DecontaminateConfig, ids: Sequence[str]) -> Part:
    """Writes one shard.

    Args:
        path: The shard to read.
        index: Its number.
        tables: Folder of the artifact to be.
        items: Folder of the index.
        config: What a leak is, and what becomes of it.
        ids: The items' ids by number.

    Returns:
        The shard's summary, the items found as [item, documents, coverage], and the counts of what was done.
    """
    lookup, found = open_index(items), _Found()
    with ExitStack() as stack:
        writer = stack.enter_context(ShardWriter(tables, index))
        cuts = stack.enter_context(TupleWriter(tables / "cuts" / path.name, CUTS))
        for document in iter_shard(path):
            leaks = find_leaks(document.text, lookup, config)
            if not leaks:
                writer.keep(document)
                continue
            found.add(leaks)
            if config.action == "drop":
                writer.drop(_contaminated(document, leaks, config, ids))
                continue
            rest, taken = _cut(document.text, leaks, lookup, config)
            found.chars += len(document.text) - len(rest)
            cuts.write([(document.doc_id, ids[leak.item], _chars(leak), leak.coverage) for leak in taken])
            _keep_or_drop(writer, document, rest, config)
    rows_found = [[item, *seen] for item, seen in sorted(found.items.items())]
    return writer.part | {"found": rows_found, "contaminated": found.documents, "cut_chars": found.chars}


def _keep_or_drop(writer: ShardWriter, document: Document, rest: str, config: DecontaminateConfig) -> None:
    if len(rest) >= config.min_chars_left:
        writer.keep(replace(document, text=rest))
    else:
        told = f"{config.min_chars_left}, {len(document.text) - len(rest)} cut"
        writer.drop(Dropped(document.doc_id, document.url, "short_after_cuts", str(len(rest)), told))


def _contaminated(
    document: Document, leaks: Sequence[Leak], config: DecontaminateConfig, ids: Sequence[str]
) -> Dropped:
    """The ledger row, which names the item of which most was found."""
    worst = max(leaks, key=lambda leak: leak.coverage)
    more = f" and {len(leaks) - 1} more" if len(leaks) > 1 else ""
    told = f"{config.coverage:g}, item {ids[worst.item]}{more}"
    return Dropped(document.doc_id, document.url, "contaminated", f"{worst.coverage:.3f}", told)


def _cut(text: str, leaks: list[Leak], index: Index, config: DecontaminateConfig) -> tuple[str, list[Leak]]:
    """What is left of a text, and what was taken out: again and again, for an item may stand there twice."""
    taken: list[Leak] = []
    while leaks:
        taken += leaks
        text = without(text, leaks)
        leaks = find_leaks(text, index, config)
    return text, taken


def _chars(leak: Leak) -> int:
    return sum(end - start for start, end in leak.spans)
