"""Counts the pieces of the training text: in parallel over shards, in flat memory, exact.

Everything a tokenizer is trained from is one table of (piece, count), and the table does not depend on the order of
documents, on shards or on workers: that is why the vocabulary does not either. A worker counts the documents of one
shard and writes its pieces in order; when it holds too many it writes what it has and starts a new table. The sorted
tables are then added up by merging, with one batch of each in memory.

`train_bytes` is spent on the documents of smallest id, shard after shard. That needs the size of the text of every
shard first, which Arrow knows from its offsets.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from components.documents import DOCUMENTS, FAN_IN, iter_shard
from components.publish import publish
from components.shardwise import Part
from components.tokenizer.pieces import cut_of

Entry: TypeAlias = tuple[str, int]

_TABLE = pa.schema([("piece", pa.large_string()), ("count", pa.int64())])
_BATCH_ROWS = 16_384
_BATCH_CHARS = 100_000  # merging holds one batch of every table, and a piece may be a page of Chinese
_MOST_HELD = 1_000_000  # different pieces a worker holds before it writes them: some 150 MB
_MOST_HELD_CHARS = 4_000_000  # in those pieces


@dataclass(frozen=True)
class Share:
    """What one worker counts.

    Attributes:
        shard: A shard of documents.
        target: Where its table goes.
        limit: Bytes of text after which it stops (with the document that reaches them).
        kind: Kind of tokenizer, which says how text is cut.
        segmenter: See `TokenizerConfig`.
        most_held: Different pieces held in memory.
        most_held_chars: Characters that those pieces may have together.
    """

    shard: Path
    target: Path
    limit: int
    kind: str
    segmenter: str
    most_held: int = _MOST_HELD
    most_held_chars: int = _MOST_HELD_CHARS


def text_bytes(shard: Path) -> int:
    """UTF-8 bytes of the texts of a shard; no text becomes a Python object."""
    options = pa.ipc.IpcReadOptions(included_fields=[DOCUMENTS.get_field_index("text")])
    total = 0
    with pa.memory_map(str(shard)) as source:
        reader = pa.ipc.open_file(source, options=options)
        for number in range(reader.num_record_batches):
            total += pc.sum(pc.binary_length(reader.get_batch(number).column("text"))).as_py() or 0
    return total


def limits_of(sizes: Sequence[int], train_bytes: int) -> list[int]:
    """Bytes to take of every shard: of the first ones all, of one a part, of the rest none."""
    limits = []
    for size in sizes:
        limits.append(min(size, train_bytes))
        train_bytes = max(0, train_bytes - size)
    return limits


def count_share(share: Share) -> Part:
    """Writes the table of one shard; returns how many documents and bytes are in it."""
    cut = cut_of(share.kind, share.segmenter)
    counts: Counter[str] = Counter()
    tables: list[Path] = []
    num_documents = num_bytes = held = 0
    for document in iter_shard(share.shard):
        if num_bytes >= share.limit:
            break
        num_documents += 1
        num_bytes += len(document.text.encode())
        for piece in cut(document.text):
            held += 0 if piece in counts else len(piece)
            counts[piece] += 1
        if len(counts) >= share.most_held or held >= share.most_held_chars:
            tables.append(_spill(share, len(tables), counts))
            counts.clear()
            held = 0
    if tables:
        merge_tables([*tables, _spill(share, len(tables), counts)], share.target)
    else:
        write_table(share.target, sorted(counts.items()))
    return {"documents": num_documents, "bytes": num_bytes}


def count_texts(texts: Iterable[str], kind: str, segmenter: str = "none") -> list[Entry]:
    """The table of a few texts, in memory."""
    cut = cut_of(kind, segmenter)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cut(text))
    return sorted(counts.items())


def merge_tables(paths: Sequence[Path], target: Path) -> None:
    """Adds up sorted tables into one, `FAN_IN` at a time."""
    level = 0
    while len(paths) > FAN_IN:
        groups = [paths[start : start + FAN_IN] for start in range(0, len(paths), FAN_IN)]
        merged = [target.with_name(f"{target.stem}-{level}-{number}.arrow") for number in range(len(groups))]
        for group, path in zip(groups, merged, strict=True):
            write_table(path, _added_up(group))
        paths, level = merged, level + 1
    write_table(target, _added_up(paths))


def write_table(path: Path, entries: Iterable[Entry]) -> None:
    """Writes a table in the order given, batch by batch."""
    with (
        publish(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _TABLE, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer,
    ):
        batch: list[Entry] = []
        chars = 0
        for entry in entries:
            batch.append(entry)
            chars += len(entry[0])
            if len(batch) == _BATCH_ROWS or chars >= _BATCH_CHARS:
                writer.write_batch(_as_batch(batch))
                batch, chars = [], 0
        writer.write_batch(_as_batch(batch))


def iter_table(path: Path) -> Iterator[Entry]:
    """The entries of a table, one batch in memory at a time."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            columns = reader.get_batch(number).to_pydict()
            yield from zip(columns["piece"], columns["count"], strict=True)


def most_frequent(path: Path, limit: int) -> tuple[list[Entry], int]:
    """The entries of highest count, in the order of the table; of equal ones the first.

    Args:
        path: A table.
        limit: Bytes that their pieces may have together.

    Returns:
        The entries, and how many occurrences of pieces were left out with the others.
    """
    sizes: Counter[int] = Counter()  # bytes of all pieces of one count
    for piece, count in iter_table(path):
        sizes[count] += len(piece.encode())
    threshold, room = 0, 0
    for count in sorted(sizes, reverse=True):
        threshold, room = count, limit
        limit -= sizes[count]
        if limit <= 0:
            break
    kept: list[Entry] = []
    left_out = 0
    for piece, count in iter_table(path):
        if count == threshold:
            room -= len(piece.encode())
        if count > threshold or (count == threshold and room >= 0):
            kept.append((piece, count))
        else:
            left_out += count
    return kept, left_out


def _added_up(paths: Sequence[Path]) -> Iterator[Entry]:
    merged = heapq.merge(*(iter_table(path) for path in paths))
    for piece, entries in groupby(merged, key=lambda entry: entry[0]):
        yield piece, sum(count for _, count in entries)


def _spill(share: Share, number: int, counts: Counter[str]) -> Path:
    path = share.target.with_name(f"{share.target.stem}-part-{number}.arrow")
    write_table(path, sorted(counts.items()))
    return path


def _as_batch(batch: Sequence[Entry]) -> pa.RecordBatch:
    columns = {"piece": [piece for piece, _ in batch], "count": [count for _, count in batch]}
    return pa.RecordBatch.from_pydict(columns, schema=_TABLE)
