"""Settings of the step `extract`."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import added, require, require_choice, runtime

FORMS = ("plain", "markdown")


@dataclass(frozen=True)
class ExtractConfig:
    """How pages become documents.

    Attributes:
        source: Name of the corpus the pages belong to; part of every document's identity.
        shards: Number of document shards; later steps keep it. More shards, more work in parallel.
        max_page_bytes: Larger pages are dropped (rule `page_bytes`).
        max_replaced_share: Largest share of undecodable characters in a page's text (rule `encoding`).
        form: How structure shows in the text: `plain` is a line per heading, paragraph, list item and table row;
            `markdown` marks headings, items, tables and code as well.
        links: Whether to write the side table of links.
        wave_pages: Pages between two looks at the clock: after each wave work is saved and a stop obeyed. Larger
            waves keep more workers busy.
    """

    source: str = "web"
    shards: int = 8
    max_page_bytes: int = 8_000_000
    max_replaced_share: float = 0.01
    wave_pages: int = runtime(512)
    form: str = added("plain")
    links: bool = added(True)

    def __post_init__(self) -> None:
        require(bool(self.source), "extract.source", repr(self.source), "must not be empty", "extract.source=web")
        require(1 <= self.shards <= 65_536, "extract.shards", self.shards, "must be 1 to 65536", "extract.shards=8")
        require(
            self.max_page_bytes > 0,
            "extract.max_page_bytes",
            self.max_page_bytes,
            "must be above 0",
            "extract.max_page_bytes=8000000",
        )
        require(
            0 <= self.max_replaced_share <= 1,
            "extract.max_replaced_share",
            self.max_replaced_share,
            "must be between 0 and 1",
            "extract.max_replaced_share=0.01",
        )
        require(
            self.wave_pages > 0, "extract.wave_pages", self.wave_pages, "must be at least 1", "extract.wave_pages=512"
        )
        require_choice("extract.form", self.form, FORMS)
