"""Settings of the step `sketch`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from components.configuring import require, runtime


@dataclass(frozen=True)
class MinHashConfig:
    """How the texts of a language are compared.

    Attributes:
        shingle_chars: Characters of a shingle.
        bands: Bands of a signature: more find more of the similar pairs.
        rows: Values in a band: more let fewer dissimilar pairs meet.
    """

    shingle_chars: int = 5
    bands: int = 50
    rows: int = 5

    def __post_init__(self) -> None:
        for name, most in (("shingle_chars", 64), ("bands", 1024), ("rows", 64)):
            value, default = getattr(self, name), getattr(type(self), name)
            key = f"sketch.<language>.{name}"
            require(1 <= value <= most, key, value, f"must be 1 to {most}", f"{key}={default}")


@dataclass(frozen=True)
class SketchConfig:
    """What is kept of each text for finding copies. Lengths count folded characters: letters, digits, single gaps.

    Attributes:
        en: Shingles and bands for English.
        zh: The same for Chinese and Japanese: hanzi carry more, so three do where an alphabet takes five.
        other: The same for all other languages.
        line_chars: Shortest line that may count as one repeated over many pages.
        line_chars_zh: The same for Chinese and Japanese.
        passage_chars: A run of so many characters that two texts share is found for certain; 0 looks for none.
        passage_chars_zh: The same for Chinese and Japanese.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    en: MinHashConfig = MinHashConfig()
    zh: MinHashConfig = MinHashConfig(shingle_chars=3)
    other: MinHashConfig = MinHashConfig()
    line_chars: int = 30
    line_chars_zh: int = 12
    passage_chars: int = 400
    passage_chars_zh: int = 150
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for name in ("line_chars", "line_chars_zh", "shards_at_once"):
            value, default = getattr(self, name), getattr(type(self), name)
            require(value >= 1, f"sketch.{name}", value, "must be at least 1", f"sketch.{name}={default}")
        for name in ("passage_chars", "passage_chars_zh"):
            value, default = getattr(self, name), getattr(type(self), name)
            rule = "must be 0 (off) or 16 to 100000"
            require(value == 0 or 16 <= value <= 100_000, f"sketch.{name}", value, rule, f"sketch.{name}={default}")

    def minhash(self, lang: str) -> MinHashConfig:
        """Shingles and bands for a language."""
        return self.zh if is_cjk(lang) else self.en if lang == "en" else self.other

    def lengths(self, lang: str) -> tuple[int, int]:
        """The shortest line and the length of a passage for a language."""
        if is_cjk(lang):
            return self.line_chars_zh, self.passage_chars_zh
        return self.line_chars, self.passage_chars


def is_cjk(lang: str) -> bool:
    """Whether texts of a language are compared by hanzi: Chinese and Japanese."""
    return lang in ("zh", "ja")


def settings_of(config: SketchConfig) -> dict[str, object]:
    """What two sketches must have in common to be compared: all but the runtime settings."""
    settings = dataclasses.asdict(config)
    del settings["shards_at_once"]
    return settings
