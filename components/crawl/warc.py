"""WARC 1.1 out: the crawl's pages in the format that every web archive tool reads.

Each record is its own gzip member, so a file may be cut after any record and still be whole: that is what lets a killed
crawl go on (`WarcWriter.open` cuts back to the last record the frontier knows of). warcio builds the records; the
compression is ours, because warcio's is fixed at level 9 and that, not the network, would set the crawl's pace.

Bodies are kept as they came over the wire (a gzip body stays gzip), only without chunked framing; the reader
(warc_read.py) undoes content encodings. Every answer to a page request is recorded, whatever its status: readers
choose.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.crawl.frontier import Position

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

    from components.crawl.fetch import Answer

_GZIP_BITS = 31
_LEVEL = 1  # Level 6 saves a fifth of the bytes and takes twice the time.
_HOP_BY_HOP = ("transfer-encoding", "connection", "keep-alive")


class WarcWriter:
    """Appends answers to numbered WARC files of a folder.

    Args:
        folder: Where the files are; files of an earlier, killed crawl are continued.
        committed: Where the last committed record of each file ends; what lies beyond is cut off, and a file without
            any committed record goes.
        max_bytes: Size from which on a new file begins.
        about: Fields of the `warcinfo` record that opens every file.
        now: Gives the time of day.
    """

    def __init__(
        self,
        folder: Path,
        committed: Mapping[str, int],
        max_bytes: int,
        about: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        from warcio.warcwriter import WARCWriter

        self._folder = folder
        self._max_bytes = max_bytes
        self._about = dict(about)
        self._now = now
        self._buffer = io.BytesIO()
        self._records = WARCWriter(self._buffer, gzip=False, warc_version="1.1")
        folder.mkdir(parents=True, exist_ok=True)
        self._cut(committed)
        self._number = max((int(name.split("-")[1].split(".")[0]) for name in committed), default=0)
        self._file: io.BufferedWriter | None = None

    def write(self, answer: Answer) -> Position:
        """Appends request and response; on return the bytes are with the operating system.

        A killed process loses nothing of them; for a failing machine see `Frontier.forget_records`.
        """
        file = self._current()
        offset = file.tell()
        date = self._date()
        response = self._response(answer, date)
        request = self._request(answer, date, response.rec_headers.get_header("WARC-Record-ID"))
        file.write(self._packed(response))
        file.write(self._packed(request))
        file.flush()
        return Position(self._name(), offset, file.tell())

    def close(self) -> None:
        """Closes the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _cut(self, committed: Mapping[str, int]) -> None:
        for path in self._folder.glob("*.warc.gz"):
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
            self._file = (self._folder / self._name()).open("ab")
            if self._file.tell() == 0:
                self._file.write(self._packed(self._info()))
        return self._file

    def _name(self) -> str:
        return f"pages-{self._number:05d}.warc.gz"

    def _date(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _packed(self, record: ArcWarcRecord) -> bytes:
        """A record as a gzip member of its own."""
        self._buffer.seek(0)
        self._buffer.truncate()
        self._records.write_record(record)
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
        return packer.compress(self._buffer.getbuffer()) + packer.flush()

    def _info(self) -> ArcWarcRecord:
        return self._records.create_warcinfo_record(self._name(), self._about)

    def _response(self, answer: Answer, date: str) -> ArcWarcRecord:
        from warcio.statusandheaders import StatusAndHeaders

        # The body stands in the record without its framing, so headers about the framing would be untrue.
        kept = [
            (f"X-Archive-Orig-{name}" if name.lower() in _HOP_BY_HOP else name, value) for name, value in answer.headers
        ]
        head = StatusAndHeaders(f"{answer.status} {answer.phrase}".strip(), kept, protocol="HTTP/1.1")
        return self._records.create_warc_record(
            answer.url,
            "response",
            payload=io.BytesIO(answer.wire),
            length=len(answer.wire),
            http_headers=head,
            warc_headers_dict={"WARC-Date": date, "WARC-IP-Address": answer.address},
        )

    def _request(self, answer: Answer, date: str, response_id: str) -> ArcWarcRecord:
        from warcio.statusandheaders import StatusAndHeaders

        target = "/" + answer.url.split("/", 3)[3]
        head = StatusAndHeaders(f"GET {target} HTTP/1.1", answer.request_headers, is_http_request=True)
        return self._records.create_warc_record(
            answer.url,
            "request",
            payload=io.BytesIO(),
            length=0,
            http_headers=head,
            warc_headers_dict={"WARC-Date": date, "WARC-Concurrent-To": response_id},
        )
