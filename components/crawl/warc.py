"""WARC 1.1 in and out: the crawl's pages in the format that every web archive tool reads.

Each record is its own gzip member, so a file may be cut after any record and still be whole: that is what lets a killed
crawl go on (`WarcWriter.open` cuts back to the last record the frontier knows of). warcio builds the records; the
compression is ours, because warcio's is fixed at level 9 and that, not the network, would set the crawl's pace.

Bodies are kept as they came over the wire (a gzip body stays gzip), only without chunked framing; `read_pages` undoes
content encodings. Every answer to a page request is recorded, whatever its status: readers choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


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

    from components.errors import StepError

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


def _page(record: object) -> Page:
    headers: dict[str, str] = {}
    for name, value in record.http_headers.headers:  # type: ignore[attr-defined]
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Page(
        url=record.rec_headers.get_header("WARC-Target-URI"),  # type: ignore[attr-defined]
        status=int(record.http_headers.get_statuscode()),  # type: ignore[attr-defined]
        headers=headers,
        payload=record.content_stream().read(),  # type: ignore[attr-defined]
    )
