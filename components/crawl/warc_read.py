"""WARC in: the pages of a crawl, ours or anybody's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.crawl.encodings import inflate
from components.errors import StepError

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

_MAX_PAYLOAD_BYTES = 1 << 30


@dataclass(frozen=True)
class Page:
    """One answer found in a WARC file.

    Attributes:
        url: Canonical URL that was asked for.
        status: HTTP status code; a page with text has 200.
        headers: Response headers, names in lower case, repeated ones joined by ", ".
        payload: Body bytes with content encodings undone, in the page's own character encoding.
    """

    url: str
    status: int
    headers: dict[str, str]
    payload: bytes


def read_pages(warc_folder: Path) -> Iterator[Page]:
    """All answers of a folder of `*.warc.gz` (or `*.warc`) files: files by name, records in file order.

    Two crawls of the same site record the same pages in another order; sort by URL, or by `doc_id`, where bytes count.

    Raises:
        StepError: If a file is damaged; names the file and the offset.
    """
    for path in sorted([*warc_folder.glob("*.warc.gz"), *warc_folder.glob("*.warc")]):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[Page]:
    """All answers of one WARC file, in file order. See `read_pages`."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    with path.open("rb") as file:
        records = ArchiveIterator(file)
        try:
            for record in records:
                if record.rec_type == "response" and record.http_headers is not None:
                    yield _page(record)
        except (ArchiveLoadFailed, EOFError, OSError, ValueError) as error:
            raise StepError(
                f"The WARC file {path.name} is damaged: {error}.",
                where=f"{path}, at or after byte {records.get_record_offset()}",
                fix="delete the artifact and run the crawl again",
            ) from error


def _page(record: ArcWarcRecord) -> Page:
    from warcio.bufferedreaders import ChunkedDataReader

    headers: dict[str, str] = {}
    for name, value in record.http_headers.headers:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    body = record.raw_stream
    if headers.get("transfer-encoding", "").lower() == "chunked":  # Not in our own files, but in others'.
        body = ChunkedDataReader(body)
    return Page(
        url=record.rec_headers.get_header("WARC-Target-URI"),
        status=int(record.http_headers.get_statuscode()),
        headers=headers,
        payload=inflate(body.read(), headers.get("content-encoding", ""), _MAX_PAYLOAD_BYTES),
    )
