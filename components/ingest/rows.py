"""Rows out of files of each kind, one after another, whatever is in them.

A row that cannot be used is a row all the same, with a fault, so that it can be counted and found: by its number, from
1, as an editor shows it. Nothing here holds more than a row, a batch of a Parquet file or a text file at a time. What
makes the file itself unreadable (half a gzip stream, no Parquet) is an error that names the file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import StepError
from components.extract.decode import decode_page
from components.ingest.sources import Source, open_source

_BATCH_ROWS = 64
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be used."""

    rule: str
    value: str
    threshold: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        number: Its number in the file, from 1.
        values: What it holds, by name; of a text file only `text`. Empty if there is a fault.
        fault: Why it cannot be used; None if it can.
        raw: Bytes that tell a faulty row from others.
    """

    number: int
    values: Mapping[str, object] = field(default_factory=dict)
    fault: Fault | None = None
    raw: bytes = b""


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read on its own.

    Attributes:
        source: The file.
        begin: First byte of a plain JSONL file's part, or first row group of a Parquet file's.
        end: What follows the last one; -1 for the end of the file.
        rows_before: Rows of the file before this part.
        size: About how many bytes it has.
    """

    source: Source
    begin: int = 0
    end: int = -1
    rows_before: int = 0
    size: int = 0


def kind_of(name: str) -> tuple[str, str]:
    """Kind ("jsonl", "parquet", "text") and packing ("", "gz", "zst") of a file, by its name."""
    lower = name.lower()
    packing = next((packing for packing in ("gz", "zst") if lower.endswith(f".{packing}")), "")
    ending = lower.removesuffix(f".{packing}").rpartition(".")[2]
    return ("parquet" if ending == "parquet" else "text" if ending in ("txt", "md") else "jsonl"), packing


def read_rows(piece: Piece, columns: frozenset[str], split: str, max_bytes: int) -> Iterator[Row]:
    """The rows of a piece.

    Args:
        piece: What to read.
        columns: Top-level columns of interest; of a Parquet file only these are read.
        split: See `IngestFilesConfig.split`.
        max_bytes: Longer rows are faults (`row_bytes`).

    Raises:
        StepError: If the file cannot be read; rows before that point have been given.
    """
    kind, packing = kind_of(piece.source.name)
    with _named_errors(piece.source), open_source(piece.source) as raw, _unpacked(raw, packing) as file:
        if kind == "parquet":
            yield from _parquet_rows(file, piece, columns)
        elif kind == "text" and split == "file":
            yield _whole_file(file, max_bytes)
        elif kind == "text":
            yield from _text_rows(file, split, max_bytes)
        else:
            yield from _json_rows(file, piece, max_bytes)


def count_lines(source: Source, begin: int, end: int) -> int:
    """Lines of a plain file that begin in a range of its bytes."""
    lines = 1 if begin == 0 and end > 0 else 0
    with _named_errors(source), open_source(source) as file:
        at = max(begin - 1, 0)
        file.seek(at)
        while at < end - 1 and (piece := file.read(min(_PIECE_BYTES, end - 1 - at))):
            lines += piece.count(b"\n")
            at += len(piece)
    return lines


@contextmanager
def _named_errors(source: Source) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, KeyError, OverflowError) as error:
        raise StepError(
            f"{source.name} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            where=source.url,
            fix="make the file again, or take it out of source.paths",
        ) from error


@contextmanager
def _unpacked(file: BinaryIO, packing: str) -> Iterator[BinaryIO]:
    if packing == "gz":
        with gzip.open(file, "rb") as plain:
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, plain)))
    elif packing == "zst":
        with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as stream:
            yield cast(BinaryIO, io.BufferedReader(stream, _PIECE_BYTES))
    else:
        yield file


def _json_rows(file: BinaryIO, piece: Piece, max_bytes: int) -> Iterator[Row]:
    number, at = piece.rows_before, piece.begin
    if piece.begin > 0:
        file.seek(piece.begin - 1)
        at = piece.begin - 1 + _skip_line(file)
    while piece.end < 0 or at < piece.end:
        line = file.readline(max_bytes + 1)
        if not line:
            return
        if at == 0 and line.startswith(b"[") and piece.source.name.lower().endswith(".json"):
            raise StepError(
                f"{piece.source.name} holds a JSON array, not one object a line.",
                where=piece.source.url,
                fix=f"rewrite it: jq -c '.[]' {piece.source.name} > rows.jsonl",
            )
        number, at = number + 1, at + len(line)
        if len(line) > max_bytes and not line.endswith(b"\n"):
            rest = _skip_line(file)
            at += rest
            yield Row(number, fault=Fault("row_bytes", str(len(line) + rest), str(max_bytes)), raw=line[:1024])
        elif line.strip():
            yield _parsed(number, line if number > 1 else line.removeprefix(codecs.BOM_UTF8))


def _skip_line(file: BinaryIO) -> int:
    """Reads to the end of the line; returns how many bytes that were."""
    skipped = 0
    while piece := file.readline(_PIECE_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _parsed(number: int, line: bytes) -> Row:
    try:
        values = json.loads(line)
    except RecursionError:
        return Row(number, fault=Fault("malformed", "nested too deeply"), raw=line[:1024])
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        return Row(number, fault=Fault("malformed", f"not JSON: {str(error)[:200]}"), raw=line[:1024])
    if not isinstance(values, dict):
        return Row(number, fault=Fault("malformed", f"{type(values).__name__}, not an object"), raw=line[:1024])
    return Row(number, values)


def _parquet_rows(file: BinaryIO, piece: Piece, columns: frozenset[str]) -> Iterator[Row]:
    table = pq.ParquetFile(file)
    wanted = [name for name in table.schema_arrow.names if name in columns]
    groups = range(piece.begin, table.num_row_groups if piece.end < 0 else piece.end)
    number = piece.rows_before
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=wanted):
        for values in _row_values(batch):
            number += 1
            yield Row(number, values) if isinstance(values, dict) else Row(number, fault=values, raw=b"row %d" % number)


def _row_values(batch: pa.RecordBatch) -> Iterator[dict[str, object] | Fault]:
    try:
        yield from batch.to_pylist()
        return
    except (UnicodeDecodeError, ValueError, OverflowError):
        pass  # One cell spoils the batch: below each row answers for itself.
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            yield Fault("malformed", str(error)[:200])


def _whole_file(file: BinaryIO, max_bytes: int) -> Row:
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        return Row(1, fault=Fault("row_bytes", f"more than {max_bytes}", str(max_bytes)), raw=content[:1024])
    return Row(1, {"text": decode_page(content).text})


def _text_rows(file: BinaryIO, split: str, max_bytes: int) -> Iterator[Row]:
    """Lines, or paragraphs numbered by their first line."""
    with _as_text(file) as text:
        if split == "line":
            for number, line in _lines(text, max_bytes):
                yield from _text_row(number, line, max_bytes)
            return
        start, paragraph = 1, ""
        for number, line in _lines(text, max_bytes):
            if line.strip():
                start, paragraph = (number, line) if not paragraph else (start, paragraph + line)
                paragraph = paragraph[: max_bytes + 1]
            else:
                yield from _text_row(start, paragraph, max_bytes)
                paragraph = ""
        yield from _text_row(start, paragraph, max_bytes)


def _lines(text: TextIO, max_chars: int) -> Iterator[tuple[int, str]]:
    """Numbered lines; of one that is too long only so much that this can be seen."""
    number = 0
    while line := text.readline(max_chars + 1):
        number += 1
        yield number, line
        while len(line) > max_chars and not line.endswith("\n") and (line := text.readline(max_chars + 1)):
            continue


def _text_row(number: int, text: str, max_bytes: int) -> Iterator[Row]:
    size = len(text.encode("utf-8", "replace"))
    if size > max_bytes:
        yield Row(
            number, fault=Fault("row_bytes", str(size), str(max_bytes)), raw=text[:1024].encode("utf-8", "replace")
        )
    elif text.strip():
        yield Row(number, {"text": text.strip("\r\n")})


@contextmanager
def _as_text(file: BinaryIO) -> Iterator[TextIO]:
    """A text file in its own encoding, told from its first MiB."""
    sample = file.read(_SAMPLE_BYTES)
    decoded = decode_page(sample[: sample.rfind(b"\n") + 1] or sample)
    chained = io.BufferedReader(_Chained(sample, file), _PIECE_BYTES)
    text = io.TextIOWrapper(chained, encoding=decoded.codec, errors="replace", newline=None)
    if decoded.reason == "bom":
        text.read(1)
    yield text


class _Chained(io.RawIOBase):
    """Some bytes that were read already, and the file they came from."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        piece = self._first[: len(buffer)] or self._rest.read(len(buffer))
        self._first = self._first[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)
