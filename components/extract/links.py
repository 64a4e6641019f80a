"""Where a page leads: its links as absolute, normalised URLs, and the side table of them all.

    links/shard-00000.arrow ...     LINKS, one row per link: sorted by `doc_id`, within a page in the page's order

A shard of links holds the links of the documents of the shard of the same number; a target that is a crawled page is
spelt as that page's `url`, so the two join into the graph of the corpus. Normalising is `crawl.urls`'s, which takes
its time; as most links are plain already, patterns here let those through untouched (a property test holds both to the
same answer), and that makes reading a page's hundred links cheaper than parsing it.

On the way from wave to shard a row is a page with all its links, so that merging costs a step per page, not per link.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from components.arrow_files import ArrowWriter
from components.crawl.urls import join, normalise
from components.documents import FAN_IN, shard_of

LINKS = pa.schema([("doc_id", pa.binary(16)), ("target", pa.string())])
"""The published table."""
_GROUPED = pa.schema([("doc_id", pa.binary(16)), ("targets", pa.list_(pa.string()))])
_BATCH_LINKS = 16_384

PageLinks = tuple[bytes, Sequence[str]]
"""A document's id and its targets."""

_CHARS = r"[A-Za-z0-9._~!$&'()*+,=:@-]*(?:%(?:20|[89A-F][0-9A-F])[A-Za-z0-9._~!$&'()*+,=:@-]*)*"
_PATH = rf"(?:/(?!\.){_CHARS})*"
_PLAIN_URL = re.compile(rf"(https?://(?:[a-z0-9-]+\.)+[a-z]{{2,}})({_PATH})")
_PLAIN_PATH = re.compile(rf"/(?![./]){_CHARS}{_PATH}")
_PLAIN_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._~-]*(?:/(?![./]){_CHARS})*")
_PLAIN_FOLDER = re.compile(rf"https?://[^/]+/(?:{_CHARS}(?<!/)/)*{_CHARS}")
_PARAMETER = r"[A-Za-z0-9_-]+(?:=[A-Za-z0-9._~,:/+-]*)?"
_PLAIN_QUERY = re.compile(rf"{_PARAMETER}(?:&{_PARAMETER})*")
_NO_PAGE = re.compile(r"\s*(?:#|(?:javascript|mailto|tel|data|about|whatsapp|sms):|$)", re.IGNORECASE)


def resolve(base: str, references: Iterable[str]) -> list[str]:
    """Normalised URLs that some references on a page mean, each once, in the page's order.

    Args:
        base: Normalised URL of the page.
        references: Values of `href`, any text at all; what leads to no http or https URL is passed over.
    """
    origin = base[: base.index("/", 8)] if base.find("/", 8) > 0 else base
    folder = base[: base.rindex("/") + 1] if origin != base and _PLAIN_FOLDER.fullmatch(base) else ""
    targets: dict[str, None] = {}
    for reference in dict.fromkeys(references):
        target = _plain(reference, origin, folder)
        if target is None and not _NO_PAGE.match(reference):
            target = join(base, reference)
        if target is not None:
            targets[target] = None
    return list(targets)


def _plain(reference: str, origin: str, folder: str) -> str | None:
    """The target of a reference that needs no normalising but for a missing slash; None for any other."""
    path, mark, query = reference, "", ""
    if "#" in reference or "?" in reference:
        path, mark, query = reference.partition("#")[0].partition("?")
    if mark and not (query and _is_plain_query(query)):
        return None
    if path.startswith("http"):
        found = _PLAIN_URL.fullmatch(path)
        if found is None or "//xn--" in path or ".xn--" in path:
            return None
        return f"{found[1]}{found[2] or '/'}{mark}{query}"
    if path.startswith("/"):
        return f"{origin}{path}{mark}{query}" if _PLAIN_PATH.fullmatch(path) else None
    return f"{folder}{path}{mark}{query}" if folder and _PLAIN_NAME.fullmatch(path) else None


def _is_plain_query(query: str) -> bool:
    return _PLAIN_QUERY.fullmatch(query) is not None and all(
        _is_kept(piece.partition("=")[0]) for piece in query.split("&")
    )


@lru_cache(maxsize=4096)
def _is_kept(parameter: str) -> bool:
    """Whether normalising keeps a parameter: it drops those that only track the visitor."""
    url = f"http://example.com/?{parameter}="
    return normalise(url) == url


class LinkWriter(ArrowWriter):
    """Writes links page by page into a file; a context manager, published on a clean exit.

    Args:
        path: The file.
        grouped: Whether a row is a page with all its links (between waves), or a link (the published table).
    """

    def __init__(self, path: Path, grouped: bool = False) -> None:
        super().__init__(path, _GROUPED if grouped else LINKS, "lz4")
        self._ids: list[bytes] = []
        self._targets: list[Sequence[str]] = []
        self._count = 0

    def add(self, doc_id: bytes, targets: Sequence[str]) -> None:
        """Adds a page's links; pages must come in ascending `doc_id` order."""
        if targets:
            self._ids.append(doc_id)
            self._targets.append(targets)
            self._count += len(targets)
            if self._count >= _BATCH_LINKS:
                self._flush()

    def _finish(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._ids:
            if self._schema is _GROUPED:
                columns: list[Sequence[object]] = [self._ids, self._targets]
            else:
                one_by_one = [doc_id for doc_id, own in zip(self._ids, self._targets, strict=True) for _ in own]
                columns = [one_by_one, [target for own in self._targets for target in own]]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._ids, self._targets, self._count = [], [], 0


def read_links(artifact: Path) -> Iterator[tuple[bytes, str]]:
    """All links of an extract artifact, as (doc_id, target), one batch in memory at a time."""
    for path in sorted((artifact / "links").glob("shard-*.arrow")):
        for ids, targets in _batches(path):
            yield from zip(ids, targets, strict=True)


def merge_links(paths: Sequence[Path], index: int, num_shards: int) -> Iterator[PageLinks]:
    """Links of shard `index` of `num_shards` out of grouped files, in `doc_id` order; a repeated page counts once.

    Holds a batch of each file: with more than `FAN_IN` files call `condense_links` first.
    """
    merged = heapq.merge(*(_pages_of(path, index, num_shards) for path in paths), key=lambda page: page[0])
    for doc_id, pages in groupby(merged, key=lambda page: page[0]):
        yield doc_id, min(list(targets) for _, targets in pages)


def condense_links(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Merges grouped files, `FAN_IN` at a time, until no more than that are left.

    Args:
        paths: Grouped files.
        folder: Where merged files go; those that an earlier attempt finished are used.
    """
    level = 0
    while len(paths) > FAN_IN:
        groups = [paths[start : start + FAN_IN] for start in range(0, len(paths), FAN_IN)]
        merged = [folder / f"merged-{level}-{number:05d}.arrow" for number in range(len(groups))]
        for group, target in zip(groups, merged, strict=True):
            if not target.exists():
                write_links(target, merge_links(group, 0, 1), grouped=True)
        paths, level = merged, level + 1
    return list(paths)


def write_links(path: Path, pages: Iterable[PageLinks], grouped: bool = False) -> None:
    """Writes a whole file of links; pages must come in ascending `doc_id` order."""
    with LinkWriter(path, grouped) as writer:
        for doc_id, targets in pages:
            writer.add(doc_id, targets)


def _pages_of(path: Path, index: int, num_shards: int) -> Iterator[PageLinks]:
    for ids, targets in _batches(path):
        if shard_of(ids[0], num_shards) <= index <= shard_of(ids[-1], num_shards):
            yield from (page for page in zip(ids, targets, strict=True) if shard_of(page[0], num_shards) == index)


def _batches(path: Path) -> Iterator[tuple[list[bytes], list[Sequence[str]]]]:
    """Both columns of a file, batch by batch; pa's types say nothing of the second, which is a list or a string."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield batch.column(0).to_pylist(), batch.column(1).to_pylist()
