"""Settings of the step `dedup`."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import require, runtime


@dataclass(frozen=True)
class DedupConfig:
    """What counts as the same text.

    Attributes:
        exact: Whether to drop texts equal but for case, spacing and punctuation (rule `exact_duplicate`).
        near: Whether to drop texts that share most of their shingles (rule `near_duplicate`).
        threshold: Jaccard similarity of the shingle sets from which on two texts are near duplicates. 0.5 means that
            two thirds of each text's shingles are in the other; it is what 6 % changed characters leave of English.
        long_chars: Texts of at least so many characters hold most of the shingles of their language, so that any two
            of them are somewhat alike (measured on English talk: 0.27 at 20,000 characters, 0.47 at 400,000).
        threshold_long: The threshold where one of the two is so long, if it is above `threshold`.
        shingle_chars: Characters of a shingle.
        shingle_chars_zh: The same for Chinese and Japanese.
        bands: Bands of a signature: more find more of the similar pairs.
        rows: Values in a band: more let fewer dissimilar pairs meet.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    exact: bool = True
    near: bool = True
    threshold: float = 0.5
    long_chars: int = 50_000
    threshold_long: float = 0.7
    shingle_chars: int = 5
    shingle_chars_zh: int = 3
    bands: int = 50
    rows: int = 5
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for name in ("threshold", "threshold_long"):
            value, default = getattr(self, name), getattr(type(self), name)
            require(0 < value <= 1, f"dedup.{name}", value, "must be above 0 and at most 1", f"dedup.{name}={default}")
        require(self.long_chars > 0, "dedup.long_chars", self.long_chars, "must be above 0", "dedup.long_chars=50000")
        for name, most in (("shingle_chars", 64), ("shingle_chars_zh", 64), ("bands", 1024), ("rows", 64)):
            value, default = getattr(self, name), getattr(type(self), name)
            require(1 <= value <= most, f"dedup.{name}", value, f"must be 1 to {most}", f"dedup.{name}={default}")
        require(
            self.shards_at_once >= 1,
            "dedup.shards_at_once",
            self.shards_at_once,
            "must be at least 1",
            "dedup.shards_at_once=16",
        )
