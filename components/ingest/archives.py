"""The pages of one WARC file, copied into one of ours.

Only what can become text is taken: answers with status 200 that are HTML by their header, or by their first bytes where
the header says nothing. Records are copied as they stand (fields, HTTP header, body with its encodings), each as a gzip
member of its own; revisits are taken along, for a reader of the whole folder to resolve. All else is counted by reason.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.crawl.urls import normalise
from components.crawl.warc_read import Page, Record, read_records
from components.errors import StepError
from components.ingest.config import IngestWarcConfig
from components.ingest.sources import Source, open_source
from components.publish import publish
from components.shardwise import Part, once

_GZIP_BITS = 31
_LEVEL = 1  # As the crawl's: the network or the disk should set the pace, not the packing.
_USELESS_TYPES = ("", "application/octet-stream", "application/x-unknown-content-type")
_LOOKS_LIKE_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)


@dataclass(frozen=True)
class CopyTask:
    """One file to copy from.

    Attributes:
        source: The file.
        target: Where the copy goes.
        part: Where is noted that it is done.
        config: What to take.
    """

    source: Source
    target: Path
    part: Path
    config: IngestWarcConfig


def copy_archive(task: CopyTask) -> Part:
    """Copies the pages of one file, unless that is done already.

    Returns:
        file (name), read, kept (records), skipped (records by reason), bytes (of the copied bodies), damage.

    Raises:
        StepError: If the file is damaged and the config does not say to go on behind that.
    """
    return once(task.part, lambda: _copy(task))


def _copy(task: CopyTask) -> Part:
    skipped: Counter[str] = Counter()
    kept = size = 0
    damage = ""
    with open_source(task.source) as file, publish(task.target) as temporary, temporary.open("wb") as output:
        try:
            for record in read_records(file, task.source.name):
                reason = _refusal(record, task.config)
                if reason:
                    skipped[reason] += 1
                    continue
                output.write(_packed(record))
                kept += 1
                size += len(record.block)
        except StepError as error:
            if not task.config.skip_damaged:
                raise
            damage = f"{error.what} ({error.where})"
    return {
        "file": task.source.name,
        "read": kept + skipped.total(),
        "kept": kept,
        "skipped": dict(sorted(skipped.items())),
        "bytes": size,
        "damage": damage,
    }


def _refusal(record: Record, config: IngestWarcConfig) -> str:
    """Why a record is left out; empty if it is not."""
    page = record.page
    if normalise(page.url) is None:
        return "URL"
    if record.kind == "revisit":
        return "" if page.status in (200, 304) else f"status {page.status}"
    if page.fault and page.status == 0:
        return "no HTTP header"
    if page.status != 200:
        return f"status {page.status}"
    if page.fault:
        return "payload"
    declared = page.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in config.content_types and not _sniffed(declared, page):
        return "content type"
    if len(page.payload) > config.max_page_bytes:
        return "page bytes"
    return "truncated" if page.truncated and not config.keep_truncated else ""


def _sniffed(declared: str, page: Page) -> bool:
    return declared in _USELESS_TYPES and _LOOKS_LIKE_HTML.search(page.payload[:1024]) is not None


def _packed(record: Record) -> bytes:
    """A record as a gzip member."""
    fields = b"".join(
        name + b": " + value + b"\r\n" for name, value in record.head if name.lower() != b"content-length"
    )
    head = b"WARC/1.1\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(record.block)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    return packer.compress(head) + packer.compress(record.block) + packer.compress(b"\r\n\r\n") + packer.flush()
