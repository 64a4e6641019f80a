"""WARC in: the pages of a crawl, ours or anybody's (Common Crawl, Heritrix, browsers' archives).

FastWARC takes files apart: WARC/1.0 and 1.1, a gzip member for each record, plain, or zstd. Three things are added,
because an archive is input like any other. It takes a file that was cut off for one that ends there; here every record
must be as long as it says and the end of the file is looked at, so that a lost half is an error with a file and an
offset, not a smaller corpus. Bodies are decoded within a limit, whatever their headers claim: archives hold chunked
bodies, chunked headers over bodies without chunks, gzip headers over plain text (Common Crawl), Brotli. And `revisit`
records, which say "the same as before" in place of a body, get the body of the response they refer to.

A revisit is resolved where the response it refers to lies in the same folder, by record id, by URL and date, or by
payload digest. One of the same URL adds nothing, since that response is a page of its own already. What cannot be
resolved is given as it stands, without a body, so that a reader can count it.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from components.crawl.encodings import BadEncoding, TooLarge, inflate
from components.crawl.urls import normalise
from components.errors import StepError

if TYPE_CHECKING:
    from fastwarc.warc import WarcRecord

MAX_PAYLOAD_BYTES = 100_000_000
SUFFIXES = (".warc.gz", ".warc", ".warc.zst")
_MAX_HEADER_BYTES = 1 << 20
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})(?!\d)")
_PIECE_BYTES = 1 << 16
_GZIP_BITS = 31
_GZIP_MAGIC = b"\x1f\x8b"
_SIZE_DIGITS = b"0123456789abcdefABCDEF"
_MAX_SIZE_DIGITS = 16
_RESPONSES = """
CREATE TABLE responses (id TEXT, url TEXT, date TEXT, digest TEXT, file TEXT, start INTEGER);
"""
_INDEXES = """
CREATE INDEX by_id ON responses (id);
CREATE INDEX by_url ON responses (url, date);
CREATE INDEX by_digest ON responses (digest);
"""
# In the order in which a reference is worth trusting.
_LOOKUPS = (
    "SELECT url, file, start FROM responses WHERE id = :id ORDER BY file, start LIMIT 1",
    "SELECT url, file, start FROM responses WHERE url = :url AND date = :date ORDER BY file, start LIMIT 1",
    "SELECT url, file, start FROM responses WHERE digest = :digest ORDER BY file, start LIMIT 1",
    "SELECT url, file, start FROM responses WHERE url = :same ORDER BY date DESC, file, start LIMIT 1",
)


@dataclass(frozen=True)
class Page:
    """One answer found in a WARC file.

    Attributes:
        url: Canonical URL that was asked for; the archive's own spelling where it has no canonical one.
        status: HTTP status code; a page with text has 200. 0 if the answer has none that can be read.
        headers: Response headers, names in lower case, repeated ones joined by ", ".
        payload: Body bytes with content encodings undone, in the page's own character encoding.
        fault: Why there is no payload though there should be one; empty if there is one.
        truncated: Why the archive holds only the body's beginning (WARC-Truncated: "length", "time"); empty if whole.
        fetched_at: WARC-Date, as it stands there.
        file: Name of the WARC file.
        offset: Where its record begins in the file; for `open_record`.
    """

    url: str
    status: int
    headers: dict[str, str]
    payload: bytes
    fault: str = ""
    truncated: str = ""
    fetched_at: str = field(default="", compare=False)
    file: str = field(default="", compare=False)
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Record:
    """A response or revisit record with its page.

    Attributes:
        kind: "response" or "revisit".
        page: The answer; of a revisit, the headers alone.
        head: The fields of the record as they stand there, in order.
        block: What the record holds: HTTP header and body as archived; its beginning if the body is too large.
        refers_to: What a revisit refers to: record id, URL and date, payload digest; None where it does not say.
    """

    kind: str
    page: Page
    head: tuple[tuple[bytes, bytes], ...]
    block: bytes
    refers_to: dict[str, str | None] = field(default_factory=dict)


def warc_files(folder: Path) -> list[Path]:
    """The WARC files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES)) if folder.is_dir() else []


def read_pages(warc_folder: Path) -> Iterator[Page]:
    """All answers of a folder of WARC files: files by name, records in file order, revisits resolved.

    Two crawls of the same site record the same pages in another order; sort by URL, or by `doc_id`, where bytes count.

    Raises:
        StepError: If a file is damaged or cut off; names the file and the offset.
    """
    yield from _resolved(warc_files(warc_folder))


def read_file(path: Path) -> Iterator[Page]:
    """All answers of one WARC file, in file order, revisits of the same file resolved. See `read_pages`."""
    yield from _resolved([path])


def open_record(path: Path, offset: int) -> Page:
    """The one answer whose record begins at an offset of a file: what `Page.offset` told, or the frontier.

    Raises:
        StepError: If no response or revisit record begins there, or it is damaged.
    """
    with path.open("rb") as file:
        file.seek(offset)
        record = next(_records(file, path.name, offset, only_first=True), None)
    if record is None:
        raise StepError(
            f"No answer is recorded at byte {offset} of {path.name}.",
            where=str(path),
            fix="pass an offset from the crawl's frontier.sqlite, or from a page read from this very file",
        )
    return record.page


def find_pages(warc_folder: Path, url: str) -> Iterator[Page]:
    """The answers of a folder for one URL, in order. Reads every file, so it takes a while on a large folder."""
    wanted = normalise(url) or url
    return (page for page in read_pages(warc_folder) if page.url == wanted)


def read_records(file: BinaryIO, name: str) -> Iterator[Record]:
    """All response and revisit records of an open, seekable file, in order.

    Args:
        file: WARC file, at its beginning. May be remote.
        name: What to call it in errors, and in `Page.file`.

    Raises:
        StepError: If the file is damaged or cut off; names it and the offset.
    """
    return _records(file, name, 0)


def _records(file: BinaryIO, name: str, begin: int, only_first: bool = False) -> Iterator[Record]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = (WarcRecordType.response, WarcRecordType.revisit)
    at = 0
    try:
        kinds = WarcRecordType.any_type if only_first else wanted[0] | wanted[1]
        for record in ArchiveIterator(file, kinds, parse_http=False, max_header_len=_MAX_HEADER_BYTES):
            at = record.stream_pos
            if record.is_http and record.record_type in wanted:
                yield _record(record, name, begin + at, record.record_type == WarcRecordType.revisit)
            if only_first:
                return
        _check_end(file, begin + at)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise StepError(
            f"The WARC file {name} is damaged: {error}.",
            where=f"{name}, at or after byte {begin + at}",
            fix="make the file again (crawl again, or fetch it again from where it came)",
        ) from error


def _record(record: WarcRecord, name: str, offset: int, is_revisit: bool) -> Record:
    length, head = record.content_length, record.headers
    wanted = min(length, MAX_PAYLOAD_BYTES + 1)
    block = record.reader.read(wanted)
    if len(block) < wanted:
        raise EOFError(f"a record of {length} bytes ends after {len(block)}")
    page = replace(
        _answer(block, _canonical(head.get("WARC-Target-URI") or "")),
        truncated=head.get("WARC-Truncated") or "",
        fetched_at=head.get("WARC-Date") or "",
        file=name,
        offset=offset,
    )
    refers_to: dict[str, str | None] = {}
    if is_revisit:
        refers_to = {
            "id": head.get("WARC-Refers-To"),
            "url": _canonical(head.get("WARC-Refers-To-Target-URI") or "") or None,
            "date": head.get("WARC-Refers-To-Date"),
            "digest": head.get("WARC-Payload-Digest"),
            "same": page.url if page.status == 304 else None,
        }
    return Record("revisit" if is_revisit else "response", page, head.items_bytes(), block, refers_to)


def _canonical(stated: str) -> str:
    plain = stated.removeprefix("<").removesuffix(">")
    return normalise(plain) or plain


def _answer(block: bytes, url: str) -> Page:
    """The HTTP answer that a record holds, with its payload decoded as far as that goes."""
    end = _HEADER_END.search(block, 0, _MAX_HEADER_BYTES)
    if end is None and len(block) >= _MAX_HEADER_BYTES:
        return Page(url, 0, {}, b"", fault=f"HTTP header of more than {_MAX_HEADER_BYTES} bytes")
    status_line, *lines = block[: end.start() if end else len(block)].split(b"\n")
    status = _STATUS_LINE.match(status_line)
    if status is None:
        return Page(url, 0, {}, b"", fault="no HTTP status line")
    headers = _read_headers(lines)
    if len(block) > MAX_PAYLOAD_BYTES:
        return Page(url, int(status.group(1)), headers, b"", f"record of more than {MAX_PAYLOAD_BYTES} bytes")
    payload, fault = _payload(block[end.end() :] if end else b"", headers)
    return Page(url, int(status.group(1)), headers, payload, fault)


def _read_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    key = ""
    for line in lines:
        text = line.decode("latin-1").rstrip("\r")
        if text[:1] in (" ", "\t") and key:  # A value may go on in the next line (RFC 9112, 5.2).
            headers[key] += " " + text.strip()
            continue
        name, colon, value = text.partition(":")
        if colon:
            key = name.strip().lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return headers


def _payload(wire: bytes, headers: dict[str, str]) -> tuple[bytes, str]:
    """The body with its framing and encodings undone, and why there is none if there is none."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        wire = unchunked(wire)
    encodings = headers.get("content-encoding", "")
    try:
        if encodings.strip().lower() == "br":
            return _unbrotlied(wire), ""
        return inflate(wire, encodings, MAX_PAYLOAD_BYTES), ""
    except TooLarge as error:
        return b"", str(error)
    except BadEncoding as error:
        # Many archives keep the header and store the body decoded; a body that is text speaks for itself.
        return (wire, "") if _looks_plain(wire) else (b"", str(error))


def _looks_plain(wire: bytes) -> bool:
    return b"\x00" not in wire[:1024] and b"<" in wire[:1024]


def _unbrotlied(wire: bytes) -> bytes:
    import brotli  # type: ignore[import-untyped]

    decoder = brotli.Decompressor()
    try:
        plain: bytes = decoder.process(wire, output_buffer_limit=MAX_PAYLOAD_BYTES + 1)
    except brotli.error as error:
        raise BadEncoding(f"damaged br body: {error}") from error
    if len(plain) > MAX_PAYLOAD_BYTES:
        raise TooLarge(f"inflates to more than {MAX_PAYLOAD_BYTES} bytes")
    return plain


def unchunked(body: bytes) -> bytes:
    """A body without its chunk framing; the body itself if it has none, and what there is if the end is missing."""
    chunks: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\n", at, at + _PIECE_BYTES)
        size = body[at:end].split(b";", 1)[0].strip() if end >= 0 else b""
        if not size or len(size) > _MAX_SIZE_DIGITS or size.strip(_SIZE_DIGITS):
            return b"".join(chunks) if chunks else body
        length = int(size, 16)
        if length == 0:
            return b"".join(chunks)
        chunks.append(body[end + 1 : end + 1 + length])
        at = end + 1 + length
        if body.startswith(b"\r\n", at):
            at += 2
        elif body.startswith(b"\n", at):
            at += 1


def _check_end(file: BinaryIO, start: int) -> None:
    """Reads from the last record to the end of the file, to see that the file was not cut off.

    Raises:
        EOFError: If it was.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(start)
    if magic.startswith(_GZIP_MAGIC):
        # Where the file is one gzip stream as a whole, a record does not begin where it says.
        file.seek(start if file.read(2) == _GZIP_MAGIC else 0)
        _check_members(file)
    elif magic.startswith(b"WARC"):
        _check_plain(file)
    elif magic and len(magic) < 4:
        raise EOFError(f"it ends after {len(magic)} bytes")


def _check_members(file: BinaryIO) -> None:
    """Gzip members up to the end, the last one whole."""
    rest = b""
    while rest := rest or file.read(_PIECE_BYTES):
        unpacked = zlib.decompressobj(_GZIP_BITS)
        while not unpacked.eof:
            if not rest and not (rest := file.read(_PIECE_BYTES)):
                raise EOFError("the last record is cut off")
            unpacked.decompress(rest, _PIECE_BYTES)
            rest = unpacked.unused_data if unpacked.eof else unpacked.unconsumed_tail


def _check_plain(file: BinaryIO) -> None:
    """Records up to the end, the last one whole (the two line ends behind it may be missing)."""
    while True:
        line = file.readline(_MAX_HEADER_BYTES)
        while line in (b"\r\n", b"\n"):
            line = file.readline(_MAX_HEADER_BYTES)
        if not line:
            return
        length = 0
        while line not in (b"\r\n", b"\n"):
            if not line.endswith(b"\n"):
                raise EOFError("the header of the last record is cut off")
            key, _, value = line.partition(b":")
            if key.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
            line = file.readline(_MAX_HEADER_BYTES)
        while length > 0:
            piece = file.read(min(length, _PIECE_BYTES))
            if not piece:
                raise EOFError(f"the last record ends {length} bytes too early")
            length -= len(piece)


def _resolved(paths: list[Path]) -> Iterator[Page]:
    """Pages of some files, each revisit with the payload of the response it refers to."""
    index: Responses | None = None
    try:
        for path in paths:
            with path.open("rb") as file:
                for record in read_records(file, path.name):
                    if record.kind == "response":
                        yield record.page
                        continue
                    index = index or Responses(paths)
                    page = index.resolve(record)
                    if page is not None:
                        yield page
    finally:
        if index is not None:
            index.close()


class Responses:
    """Where the responses of some files are: made at the first revisit, so folders without any are read once.

    The index is a temporary SQLite database that spills to disk by itself: memory does not grow with the archive.

    Args:
        paths: The files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = {path.name: path for path in paths}
        self._database = sqlite3.connect("")
        self._database.executescript(_RESPONSES)
        for path in paths:
            self._database.executemany("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?)", _places(path))
        self._database.executescript(_INDEXES)

    def resolve(self, record: Record) -> Page | None:
        """The page a revisit stands for.

        Returns:
            The revisit with payload and status of the response it refers to; None if that is of the same URL, and so
            a page already; the bare revisit, with a `fault`, if the response is not in these files.
        """
        for lookup in _LOOKUPS:
            found = self._database.execute(lookup, record.refers_to).fetchone()
            if found is not None:
                break
        else:
            return replace(record.page, payload=b"", fault="revisit without its response")
        url, name, start = found
        if url == record.page.url:
            return None
        before = open_record(self._paths[name], start)
        # As caches do (RFC 9111, 3.2): the later headers win, but for what describes the body that is not there.
        later = {key: value for key, value in record.page.headers.items() if not key.startswith("content-")}
        return replace(
            before,
            url=record.page.url,
            headers={**before.headers, **later},
            fetched_at=record.page.fetched_at,
            file=record.page.file,
            offset=record.page.offset,
        )

    def close(self) -> None:
        """Drops the index."""
        self._database.close()


def _places(path: Path) -> Iterator[tuple[str | None, str | None, str | None, str | None, str, int]]:
    """The responses of a file that can be opened alone: id, URL, date, digest, file, offset.

    In a file that is one gzip stream as a whole no record but the first can be, and no offset is its own.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    before = -1
    with closing(path.open("rb")) as file:
        records = ArchiveIterator(file, WarcRecordType.response, parse_http=False, max_header_len=_MAX_HEADER_BYTES)
        for record in records:
            head, start = record.headers, record.stream_pos
            if start > before and record.is_http:
                url = _canonical(head.get("WARC-Target-URI") or "")
                identity, date, digest = map(head.get, ("WARC-Record-ID", "WARC-Date", "WARC-Payload-Digest"))
                yield identity, url, date, digest, path.name, start
            before = start
