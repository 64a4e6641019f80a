"""Settings of the step `dedup`."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.configuring import require, runtime


@dataclass(frozen=True)
class DedupConfig:
    """What counts as the same text, and what becomes of it. How texts are compared stands in `SketchConfig`.

    Attributes:
        url: Whether to keep one version of each http(s) URL (rule `same_url`).
        url_variants: Whether URLs that differ in http or https, a leading "www." or a slash at the end are the same.
        exact: Whether to drop texts equal but for case, width, spacing, punctuation and traditional or simplified
            forms (rule `exact_duplicate`).
        near: Whether to look for texts that share most of their shingles (rule `near_duplicate`).
        drop_near: Whether to drop those; otherwise all stay, with `cluster` and `cluster_size` filled.
        threshold: Jaccard similarity of the shingle sets from which on two texts are near duplicates. 0.5 means that
            two thirds of each text's shingles are in the other; it is what 6 % changed characters leave of English.
        thresholds: The same by language where another one is wanted: {"zh": "0.6"}. For a pair, the higher of the two.
        long_chars: Texts of at least so many characters hold most of the shingles of their language, so that any two
            of them are somewhat alike (measured on English talk: 0.27 at 20,000 characters, 0.47 at 400,000).
        threshold_long: The threshold where one of the two is so long, if it is above `threshold`.
        host_line_documents: A line in more than so many documents of one host is cut out of all of them; 0 cuts none.
        line_documents: A line in more than so many documents of the corpus is cut out of all of them; 0 cuts none.
        cut_passages: Whether to cut long runs of text that a better document has too (`sketch.passage_chars`).
        min_chars_left: A text that cutting leaves shorter than this is dropped (rule `short_after_cuts`).
        keep_memory: Whether the artifact carries what a later run needs to go on from it (`previous`): the sketches of
            all documents and the texts of those that were dropped or cut. It about doubles the artifact.
        shards_at_once: Tasks between two looks at the clock; more of them keep more workers busy.
        rows_at_once: Entries that a task holds in memory.
    """

    url: bool = True
    url_variants: bool = True
    exact: bool = True
    near: bool = True
    drop_near: bool = True
    threshold: float = 0.5
    thresholds: dict[str, str] = field(default_factory=dict)
    long_chars: int = 50_000
    threshold_long: float = 0.7
    host_line_documents: int = 100
    line_documents: int = 1000
    cut_passages: bool = True
    min_chars_left: int = 50
    keep_memory: bool = False
    shards_at_once: int = runtime(16)
    rows_at_once: int = runtime(500_000)

    def __post_init__(self) -> None:
        for name in ("threshold", "threshold_long"):
            value, default = getattr(self, name), getattr(type(self), name)
            require(0 < value <= 1, f"dedup.{name}", value, "must be above 0 and at most 1", f"dedup.{name}={default}")
        for lang, text in self.thresholds.items():
            fix = f"dedup.thresholds.{lang}=0.6"
            require(_is_share(text), f"dedup.thresholds.{lang}", text, "must be a number above 0, at most 1", fix)
        for name in ("host_line_documents", "line_documents", "min_chars_left"):
            value, default = getattr(self, name), getattr(type(self), name)
            require(value >= 0, f"dedup.{name}", value, "must be at least 0", f"dedup.{name}={default}")
        for name, least in (("long_chars", 1), ("shards_at_once", 1), ("rows_at_once", 1000)):
            value, default = getattr(self, name), getattr(type(self), name)
            require(value >= least, f"dedup.{name}", value, f"must be at least {least}", f"dedup.{name}={default}")

    def threshold_of(self, *langs: str) -> float:
        """The threshold between texts of some languages."""
        return max(float(self.thresholds.get(lang, self.threshold)) for lang in langs)


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False
