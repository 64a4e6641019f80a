"""Files shared out in pieces, and the documents of a piece written as sorted runs.

A piece is a plain JSONL file's range of bytes, some row groups of a Parquet file, or another file as a whole. A worker
takes pieces of some size together, collects documents up to a limit, sorts them and writes them as a run, so that it
holds no more than one run; the step merges the runs afterwards (an external sort).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.context import Context
from components.documents import RUN_BATCH_CHARS, Document, Outcome, write_shard
from components.errors import StepError
from components.ingest.config import IngestFilesConfig
from components.ingest.convert import Mapper
from components.ingest.rows import Piece, count_lines, kind_of, read_rows
from components.ingest.sources import Source, open_source
from components.shardwise import Part, map_in_waves, once

_RUN_ROWS = 12_500
_RUN_CHARS = 8_000_000
_MOST_PIECES = 1_000
_NAMES_TOLD = 12


@dataclass(frozen=True)
class PieceTask:
    """Some pieces for one worker.

    Attributes:
        pieces: What to read.
        folder: Where runs go.
        config: The step's settings.
    """

    pieces: tuple[Piece, ...]
    folder: Path
    config: IngestFilesConfig


def plan_tasks(ctx: Context, sources: Sequence[Source], config: IngestFilesConfig, work: Path) -> list[PieceTask]:
    """Shares files out.

    Args:
        ctx: For counting lines in parallel.
        sources: The files.
        config: The step's settings.
        work: Folder for what may be kept.
    """
    size = config.piece_mib << 20
    batches: list[list[Piece]] = [[]]
    for piece in _pieces(ctx, sources, size, work, config.wave_pieces):
        last = batches[-1]
        if last and (sum(one.size for one in last) + piece.size > size or len(last) >= _MOST_PIECES):
            batches.append([])
        batches[-1].append(piece)
    # A folder for each way of sharing out: the size of pieces is free to change between two attempts.
    place = work / f"pieces-{config.piece_mib}"
    return [PieceTask(tuple(some), place / f"{number:06d}", config) for number, some in enumerate(batches) if some]


def make_documents(task: PieceTask) -> Part:
    """Writes the runs of some pieces, unless that is done already.

    Returns:
        runs (names of their folders), names (of fields seen in a row that had no text).
    """
    return once(task.folder / "part.json", lambda: _make_runs(task))


def _make_runs(task: PieceTask) -> Part:
    mapper = Mapper(task.config)
    runs: list[str] = []
    outcome, chars = Outcome(), 0
    for piece in task.pieces:
        for row in read_rows(piece, mapper.columns, task.config.split, task.config.max_row_bytes):
            result = mapper.document(row, piece.source.name)
            if isinstance(result, Document):
                outcome.kept.append(result)
                chars += len(result.text)
            else:
                outcome.dropped.append(result)
            if chars >= _RUN_CHARS or len(outcome.kept) + len(outcome.dropped) >= _RUN_ROWS:
                runs.append(_write_run(task.folder, len(runs), outcome))
                outcome, chars = Outcome(), 0
    if outcome.kept or outcome.dropped:
        runs.append(_write_run(task.folder, len(runs), outcome))
    return {"runs": runs, "names": sorted(mapper.names_without_text)[:_NAMES_TOLD]}


def _write_run(folder: Path, number: int, outcome: Outcome) -> str:
    name = f"run-{number:05d}"
    write_shard(folder / name, 0, outcome, RUN_BATCH_CHARS)
    return name


def _pieces(ctx: Context, sources: Sequence[Source], size: int, work: Path, wave: int) -> Iterator[Piece]:
    ranges = [
        (source, begin, min(begin + size, source.size))
        for source in sources
        if kind_of(source.name) == ("jsonl", "") and source.is_local and source.size > size
        for begin in range(0, source.size, size)
    ]
    counts = map_in_waves(ctx, partial(_counted, work / f"lines-{size}"), ranges, wave, "pieces counted")
    lines = {(source.url, begin): count for (source, begin, _), count in zip(ranges, counts, strict=True)}
    split = {source.url for source, _, _ in ranges}
    for source in sources:
        kind, _ = kind_of(source.name)
        if source.url in split:
            before = 0
            for begin in range(0, source.size, size):
                yield Piece(source, begin, min(begin + size, source.size), before, size)
                before += lines[source.url, begin]
        elif kind == "parquet":
            yield from _row_groups(source, size)
        else:
            yield Piece(source, size=max(source.size, 0))


def _counted(folder: Path, task: tuple[Source, int, int]) -> int:
    source, begin, end = task
    part = folder / f"{source.mark[:32]}-{begin}.json"
    return int(str(once(part, lambda: {"lines": count_lines(source, begin, end)})["lines"]))


def _row_groups(source: Source, size: int) -> Iterator[Piece]:
    try:
        with open_source(source) as file:
            about = pq.ParquetFile(file).metadata
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            shape = [(group.num_rows, group.total_byte_size) for group in groups]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StepError(
            f"{source.name} is no Parquet file: {str(error).splitlines()[0]}.",
            where=source.url,
            fix="make the file again, or take it out of source.paths",
        ) from error
    begin = rows = taken = bytes_taken = 0
    for number, (num_rows, num_bytes) in enumerate(shape):
        taken += num_rows
        bytes_taken += num_bytes
        if bytes_taken >= size or number == len(shape) - 1:
            yield Piece(source, begin, number + 1, rows, bytes_taken)
            begin, rows = number + 1, rows + taken
            taken = bytes_taken = 0
