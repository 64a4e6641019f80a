"""Settings of the steps `ingest_warc` and `ingest_files`."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.configuring import require, require_choice, runtime

FIELDS = {
    "text": "text",
    "url": "url",
    "id": "id",
    "title": "title",
    "lang": "lang",
    "date": "date",
    "licence": "license",
    "opt_out": "opt_out",
    "source": "",
}
"""Where a row has what a document needs, unless `fields` says otherwise."""


@dataclass(frozen=True)
class IngestWarcConfig:
    """Which WARC files to take, and which of their pages.

    Attributes:
        paths: Files, folders, globs, or URLs that fsspec opens ("s3://bucket/crawl/*.warc.gz"). Where they lie does
            not change the result, what they hold does: see `fingerprint`.
        fingerprint: What `sources.fingerprint(paths)` gave when the run was planned; empty if nobody asked. A step
            whose files have changed since then is refused.
        content_types: Media types of the pages kept; a page without a useful type is looked at.
        max_page_bytes: Larger pages are left out (reason `page bytes`).
        keep_truncated: Keep pages of which the archive holds only the beginning (Common Crawl cuts at 1 MiB).
        skip_damaged: Take what a damaged file holds before the damage, and count the file; else the step ends there.
        wave_files: Files between two looks at whether to stop; a file that is done is not read again.
    """

    paths: tuple[str, ...] = runtime(())
    fingerprint: str = ""
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml")
    max_page_bytes: int = 8_000_000
    keep_truncated: bool = True
    skip_damaged: bool = False
    wave_files: int = runtime(16)

    def __post_init__(self) -> None:
        require(
            bool(self.content_types),
            "ingest_warc.content_types",
            "[]",
            "names none",
            "ingest_warc.content_types=[text/html]",
        )
        _at_least_one("ingest_warc", self, "max_page_bytes", "wave_files")


@dataclass(frozen=True)
class IngestFilesConfig:
    """Which files to take as documents, and where their rows have what.

    Attributes:
        paths: Files, folders, globs, or URLs that fsspec opens. Known endings: .jsonl, .ndjson, .json (one object a
            line), .parquet, .txt, .md; all but .parquet may end in .gz or .zst too.
        fingerprint: See `IngestWarcConfig`.
        source: Name of the corpus; part of every document's identity.
        fields: Where a row has text, url, id, title, lang, date, licence, opt_out, source; "meta.url" looks into a
            nested object, "" nowhere. What is not named keeps its default.
        split: What is a document of a text file: the whole `file`, a `paragraph` (up to an empty line) or a `line`.
        licence: Licence of rows that state none: an SPDX id or a URL.
        lang: Language of rows that state none; empty to detect it.
        shards: Number of document shards; later steps keep it.
        max_row_bytes: Longer rows and text files are dropped (rule `row_bytes`).
        max_replaced_share: Largest share of undecodable characters in a text (rule `encoding`).
        piece_mib: Size of the pieces that a plain JSONL file is shared out in.
        wave_pieces: Pieces between two looks at whether to stop; a piece that is done is not read again.
    """

    paths: tuple[str, ...] = runtime(())
    fingerprint: str = ""
    source: str = "files"
    fields: dict[str, str] = field(default_factory=dict)
    split: str = "file"
    licence: str = ""
    lang: str = ""
    shards: int = 8
    max_row_bytes: int = 16_000_000
    max_replaced_share: float = 0.01
    piece_mib: int = runtime(64)
    wave_pieces: int = runtime(16)

    def __post_init__(self) -> None:
        require(
            bool(self.source),
            "ingest_files.source",
            repr(self.source),
            "must not be empty",
            "ingest_files.source=files",
        )
        for name in self.fields:
            require_choice("ingest_files.fields", name, tuple(FIELDS))
        require_choice("ingest_files.split", self.split, ("file", "paragraph", "line"))
        require(
            self.lang == "" or (self.lang.isascii() and self.lang.isalpha() and self.lang.islower()),
            "ingest_files.lang",
            self.lang,
            "is no ISO 639 code",
            "ingest_files.lang=zh",
        )
        require(
            1 <= self.shards <= 65_536,
            "ingest_files.shards",
            self.shards,
            "must be 1 to 65536",
            "ingest_files.shards=8",
        )
        require(
            0 <= self.max_replaced_share <= 1,
            "ingest_files.max_replaced_share",
            self.max_replaced_share,
            "must be between 0 and 1",
            "ingest_files.max_replaced_share=0.01",
        )
        _at_least_one("ingest_files", self, "max_row_bytes", "piece_mib", "wave_pieces")


def _at_least_one(step: str, config: IngestWarcConfig | IngestFilesConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(value >= 1, f"{step}.{name}", value, "must be at least 1", f"{step}.{name}=16")
