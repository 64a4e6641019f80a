"""Counts the pieces of the training text: in parallel over shards, in flat memory, exactly.

Everything a tokenizer is trained from is one table of (piece, count), and the table does not depend on the order of
documents, on shards or on workers: that is why the vocabulary does not either. A worker counts the documents of one
shard and writes its pieces in order; when it holds too many it writes what it has and starts a new table. The sorted
tables are then added up by merging, with one batch of each in memory. A table that is too large for the trainer, which
holds it in memory, gives way to a sample that stands for it.

`train_bytes` is spent on the documents of smallest id, shard after shard. That needs the size of the text of every
shard first, which Arrow knows from its offsets.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_BATCH_CHARS = 15_000  # merging holds one batch of every table, as Python objects
_MOST_HELD = 50_000  # different pieces a worker holds before it writes them: some 20 MB
_MOST_HELD_CHARS = 250_000  # in those pieces


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


@dataclass(frozen=True)
class Sample:
    """A table of bounded size, see `fair_sample`.

    Attributes:
        path: The table.
        num_pieces: Its entries.
        left_out: Entries that it lacks.
        share_left_out: Their share of all occurrences.
    """

    path: Path
    num_pieces: int
    left_out: int
    share_left_out: float

    def told(self) -> str:
        """The sample in a few words, for the journal."""
        if not self.left_out:
            return f"{self.num_pieces} pieces"
        share = f"{100 * self.share_left_out:.1f} % of all occurrences"
        return f"{self.num_pieces} pieces; {self.left_out} rare ones, {share}, are stood for by others"


def text_bytes(shard: Path) -> int:
    """UTF-8 bytes of the texts of a shard; no text becomes a Python object."""
    options = pa.ipc.IpcReadOptions(included_fields=[DOCUMENTS.get_field_index("text")])
    total = 0
    with pa.OSFile(str(shard)) as source:
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
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            columns = reader.get_batch(number).to_pydict()
            yield from zip(columns["piece"], columns["count"], strict=True)


def fair_sample(source: Path, target: Path, limit: int) -> Sample:
    """Bounds a table: all frequent pieces, and of the rare ones so many that they fit, which then count for more.

    Priority sampling (Duffield, Lund and Thorup 2007, "Priority sampling for estimation of arbitrary subset sums"): a
    piece draws u in (0, 1] and has the priority count / u. Kept is what has a priority of at least t, and it counts
    max(count, t) times. A piece is kept with the probability count / t, so that every sum over pieces, such as how
    often two bytes are neighbours, is the same in the mean as it was: Chinese, whose pieces are long and mostly occur
    once, keeps its weight. The draw is a checksum of the piece, hence the same in any order.

    Args:
        source: A table.
        target: Where the sample goes, in the same order; nothing is written if all fits.
        limit: Bytes that the pieces may have together.
    """
    sizes: Counter[float] = Counter()
    num_pieces = occurrences = 0
    for piece, count in iter_table(source):
        sizes[_rounded(_priority(piece, count))] += len(piece.encode())
        num_pieces += 1
        occurrences += count
    least = _least_priority(sizes, limit)
    if least == 1.0:
        return Sample(source, num_pieces, 0, 0.0)
    kept: Counter[str] = Counter()
    write_table(target, _drawn(source, least, kept))
    left_out = 1 - kept["occurrences"] / occurrences
    return Sample(target, kept["pieces"], num_pieces - kept["pieces"], left_out)


def _priority(piece: str, count: int) -> float:
    return count / ((zlib.crc32(piece.encode()) + 1) / 2**32)


def _rounded(priority: float) -> float:
    """The priority with eight bits: a few thousand different ones, in which sizes are added up."""
    mantissa, exponent = math.frexp(priority)
    return math.ldexp(math.floor(mantissa * 256), exponent - 8)


def _least_priority(sizes: Mapping[float, int], limit: int) -> float:
    """The priority from which on all pieces fit; 1 if simply all do."""
    least = math.inf
    for priority in sorted(sizes, reverse=True):
        limit -= sizes[priority]
        if limit < 0:
            return least
        least = priority
    return 1.0


def _drawn(source: Path, least: float, kept: Counter[str]) -> Iterator[Entry]:
    """The pieces whose priority is high enough; adds up how many they are and how often they occur."""
    for piece, count in iter_table(source):
        priority = _priority(piece, count)
        if priority < least:
            continue
        kept["pieces"] += 1
        kept["occurrences"] += count
        # Of those kept, least / priority is even over (0, 1]: so `least` is rounded up as often as its fraction says.
        yield piece, count if count >= least else int(least + least / priority)


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
