"""WARC 1.1 out: the crawl's pages in the format that every web archive tool reads.

Each record is its own gzip member, so a file may be cut after any record and still be whole: that is what lets a killed
crawl go on (`WarcWriter` cuts back to the last record the frontier knows of), and what lets the next crawl take over a
page's records as they are. The records are plain enough to be put together here; what takes the time is compression.

Bodies are kept as they came over the wire (a gzip body stays gzip), only without chunked framing. Every answer to a
page request is recorded, whatever its status and with all its headers: readers choose. An answer is a group of records
that follow each other: `response` (what came), `request` (what was asked), `metadata` (why it was asked for, and the
links found). A page that has not changed is a `revisit`, followed by the earlier group.
"""

from __future__ import annotations

import base64
import hashlib
import io
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.crawl.frontier import Position
from components.errors import StepError

if TYPE_CHECKING:
    from components.crawl.fetch import Answer

_GZIP_BITS = 31
_LEVEL = 1  # Level 6 saves a fifth of the bytes and takes twice the time.
_HOP_BY_HOP = ("transfer-encoding", "connection", "keep-alive")
_PROFILE = "http://netpreserve.org/warc/1.1/revisit/"
_HTTP_RESPONSE = "application/http; msgtype=response"
_HTTP_REQUEST = "application/http; msgtype=request"
_FIELDS = "application/warc-fields"
NOT_MODIFIED, IDENTICAL = "server-not-modified", "identical-payload-digest"
"""Profiles of a revisit: the server says that nothing changed; the body it sent is the one that was had."""


@dataclass(frozen=True)
class Origin:
    """Why a page was asked for, and what it leads to.

    Attributes:
        why: What named it: "seed", "link", "sitemap" ...
        via: URL of that; empty for a seed.
        depth: Links away from a seed.
        links: Normalised URLs it links to.
        feeds: Normalised URLs of the feeds it names.
    """

    why: str = ""
    via: str = ""
    depth: int = 0
    links: Sequence[str] = ()
    feeds: Sequence[str] = ()


class WarcWriter:
    """Appends answers to numbered WARC files of a folder.

    Args:
        folder: Where the files are; files of an earlier, killed crawl are continued.
        committed: Where the last committed record of each file ends; what lies beyond is cut off, and a file without
            any committed record goes.
        max_bytes: Size from which on a new file begins.
        about: Fields of the `warcinfo` record that opens every file.
        prefix: Beginning of the files' names.
        now: Gives the time of day.

    Attributes:
        folder: See above.
    """

    def __init__(
        self,
        folder: Path,
        committed: Mapping[str, int],
        max_bytes: int,
        about: Mapping[str, str],
        prefix: str = "pages",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._about = dict(about)
        self._prefix = prefix
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)
        self._cut(committed)
        self._number = max((int(name.split(".")[0].rpartition("-")[2]) for name in committed), default=0)
        self._file: io.BufferedWriter | None = None

    def write(self, answer: Answer, origin: Origin | None = None) -> Position:
        """Appends response, request and metadata; on return the bytes are with the operating system.

        A killed process loses nothing of them; for a failing machine see `Frontier.forget_records`.
        """
        date, response_id = self._date(), _new_id()
        head = [("WARC-IP-Address", answer.address), ("WARC-Payload-Digest", _digest(answer.wire))]
        block = _response_head(answer) + answer.wire
        group = [
            _packed(_record("response", response_id, date, answer.url, _HTTP_RESPONSE, head, block)),
            *self._beside(answer, date, response_id, origin),
        ]
        return self._append(group)

    def write_revisit(self, answer: Answer, profile: str, before: bytes, origin: Origin | None = None) -> Position:
        """Appends a revisit with its request and metadata, and behind it the earlier group that it refers to.

        Args:
            answer: What came this time.
            profile: `NOT_MODIFIED` or `IDENTICAL`.
            before: The group of records that the page was recorded with.
            origin: Why it was asked for.

        Returns:
            The place of the earlier group, where the page is.

        Raises:
            StepError: If the earlier group is damaged.
        """
        fields = _fields_of(next(iter(list(_members(before, answer.url))), b""))  # All, so that all are checked.
        date, record_id = self._date(), _new_id()
        head = [
            ("WARC-IP-Address", answer.address),
            ("WARC-Profile", _PROFILE + profile),
            ("WARC-Refers-To", fields.get("warc-record-id", "")),
            ("WARC-Refers-To-Target-URI", answer.url),
            ("WARC-Refers-To-Date", fields.get("warc-date", "")),
        ]
        if profile == IDENTICAL:
            head.append(("WARC-Payload-Digest", fields.get("warc-payload-digest", "")))
        block = _response_head(answer)
        record = _record("revisit", record_id, date, answer.url, _HTTP_RESPONSE, head, block)
        members = [_packed(record), *self._beside(answer, date, record_id, origin)]
        place = self._append([*members, before])
        return Position(place.file, place.end - len(before), place.end)

    def carry(self, before: bytes, url: str) -> Position:
        """Appends the group of records that a page was recorded with in an earlier crawl.

        Raises:
            StepError: If it is damaged.
        """
        for _ in _members(before, url):
            pass
        return self._append([before])

    def close(self) -> None:
        """Closes the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, members: Iterable[bytes]) -> Position:
        file = self._current()
        offset = file.tell()
        file.write(b"".join(members))
        file.flush()
        return Position(self._name(), offset, file.tell())

    def _beside(self, answer: Answer, date: str, answer_id: str, origin: Origin | None) -> Iterator[bytes]:
        """The records that go with an answer."""
        concurrent = [("WARC-Concurrent-To", answer_id)]
        block = _request_head(answer)
        yield _packed(_record("request", _new_id(), date, answer.url, _HTTP_REQUEST, concurrent, block))
        if origin is not None:
            lines = [("whyFetched", origin.why), ("via", origin.via), ("hopsFromSeed", str(origin.depth))]
            lines += [("outlink", link) for link in origin.links]
            lines += [("feed", link) for link in origin.feeds]
            block = "".join(f"{name}: {value}\r\n" for name, value in lines if value).encode()
            yield _packed(_record("metadata", _new_id(), date, answer.url, _FIELDS, concurrent, block))

    def _cut(self, committed: Mapping[str, int]) -> None:
        for path in self.folder.glob("*.warc.gz"):
            end = committed.get(path.name)
            if end is None:
                path.unlink()
            elif path.stat().st_size > end:
                with path.open("r+b") as file:
                    file.truncate(end)

    def _current(self) -> io.BufferedWriter:
        if self._file is not None and self._file.tell() >= self._max_bytes:
            self.close()
            self._number += 1
        if self._file is None:
            self._number = max(self._number, 1)
            self._file = (self.folder / self._name()).open("ab")
            if self._file.tell() == 0:
                block = "".join(f"{name}: {value}\r\n" for name, value in self._about.items()).encode()
                name = [("WARC-Filename", self._name())]
                self._file.write(_packed(_record("warcinfo", _new_id(), self._date(), "", _FIELDS, name, block)))
        return self._file

    def _name(self) -> str:
        return f"{self._prefix}-{self._number:05d}.warc.gz"

    def _date(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_links(folder: Path, position: Position) -> tuple[list[str], list[str]]:
    """Links and feeds of a page, as its group of records has them.

    Args:
        folder: Where the WARC files are.
        position: Place of the group.

    Raises:
        StepError: If it is damaged.
    """
    path = folder / position.file
    with path.open("rb") as file:
        file.seek(position.offset)
        group = file.read(position.end - position.offset)
    links: list[str] = []
    feeds: list[str] = []
    for member in _members(group, str(path)):
        if _fields_of(member).get("warc-type") == "metadata":
            for line in member.partition(b"\r\n\r\n")[2].decode().split("\r\n"):
                name, _, value = line.partition(": ")
                if name in ("outlink", "feed"):
                    (links if name == "outlink" else feeds).append(value)
    return links, feeds


def headers_of(group: bytes, url: str) -> list[tuple[str, str]]:
    """Headers of the answer that a group of records holds, names in lower case.

    Args:
        group: The records.
        url: What they are of, for the error.

    Raises:
        StepError: If they are damaged.
    """
    block = next(_members(group, url), b"").partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[0]
    lines = block.decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


def _record(
    kind: str, record_id: str, date: str, url: str, media_type: str, head: list[tuple[str, str]], block: bytes
) -> bytes:
    fields = [("WARC-Type", kind), ("WARC-Record-ID", record_id), ("WARC-Date", date)]
    fields += [("WARC-Target-URI", url)] if url else []
    fields += [*head, ("WARC-Block-Digest", _digest(block)), ("Content-Type", media_type)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields if value)
    return f"WARC/1.1\r\n{lines}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def _packed(record: bytes) -> bytes:
    """A record as a gzip member of its own."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    return packer.compress(record) + packer.flush()


def _response_head(answer: Answer) -> bytes:
    """Status line and headers, byte for byte as they were sent but for what is untrue of a body without framing."""
    lines = [f"HTTP/1.1 {answer.status} {answer.phrase}".strip()]
    for name, value in answer.headers:
        lines.append(f"{'X-Archive-Orig-' if name.lower() in _HOP_BY_HOP else ''}{name}: {value}")
    return "\r\n".join(lines).encode("latin-1", errors="replace") + b"\r\n\r\n"


def _request_head(answer: Answer) -> bytes:
    lines = [f"GET /{answer.url.split('/', 3)[3]} HTTP/1.1", *(f"{n}: {v}" for n, v in answer.request_headers)]
    return "\r\n".join(lines).encode("latin-1", errors="replace") + b"\r\n\r\n"


def _digest(content: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def _new_id() -> str:
    return f"<urn:uuid:{uuid.uuid4()}>"


def _members(group: bytes, name: str) -> Iterator[bytes]:
    """The records of a group, unpacked.

    Raises:
        StepError: If they are damaged.
    """
    while group:
        unpacker = zlib.decompressobj(_GZIP_BITS)
        try:
            record = unpacker.decompress(group)
        except zlib.error as error:
            raise _damaged(name, str(error)) from error
        if not unpacker.eof or not record.startswith(b"WARC/"):
            raise _damaged(name, "a record is cut off or none")
        yield record
        group = unpacker.unused_data


def _fields_of(record: bytes) -> dict[str, str]:
    lines = record.partition(b"\r\n\r\n")[0].decode("utf-8", errors="replace").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def _damaged(name: str, why: str) -> StepError:
    return StepError(f"The earlier records of {name} are damaged: {why}.", name, "crawl again without `previous`")
