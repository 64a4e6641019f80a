"""Settings of the step `clean`: the thresholds of its rules, by name."""

from __future__ import annotations

from dataclasses import dataclass, fields

from components.configuring import require, runtime


@dataclass(frozen=True)
class CleanConfig:
    """Which documents are kept.

    A field `min_x` or `max_x` is the threshold of the rule of that name; `rules.py` says over which statistic. Fields
    with `_zh` hold for Chinese and Japanese in place of the one without. Set a maximum share to 1 or a minimum to 0 to
    switch a rule off.

    Attributes:
        languages: Languages kept (ISO 639 codes), rule `language`; empty keeps all.
        min_chars: Fewest characters.
        max_chars: Most characters.
        cjk_length_scale: Both lengths are multiplied by this for Chinese and Japanese, which say more with less.
        max_mojibake_share: Most characters that betray a wrong decoding.
        min_letter_share: Fewest letters and hanzi among the characters that are not space.
        max_symbol_share: Most symbols ("#", "|", "~", arrows, emoji, ...) among them.
        max_punctuation_share: Most punctuation marks among them.
        max_punctuation_share_zh: The same for Chinese and Japanese.
        max_digit_share: Most digits among them.
        max_url_share: Most characters of URLs among them.
        min_line_columns: Shortest mean line, in columns (a hanzi takes two). Low, for conversations have short lines.
        max_duplicate_line_share: Most characters in lines that repeat an earlier line.
        max_repeated_ngram_share: Most word 5-grams (hanzi 10-grams) that repeat an earlier one.
        max_top_ngram_share: Most words taken by repeats of the most frequent 3-gram (hanzi 6-gram).
        min_distinct_word_share: Fewest distinct words in a hundred.
        min_distinct_word_share_zh: Fewest distinct hanzi in a hundred.
        min_function_word_share: Fewest English function words ("the", "you", ...), against keyword lists.
        min_function_word_share_zh: Fewest Chinese ones.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    languages: tuple[str, ...] = ("en", "zh")
    min_chars: int = 100
    max_chars: int = 1_000_000
    cjk_length_scale: float = 0.4
    max_mojibake_share: float = 0.02
    min_letter_share: float = 0.55
    max_symbol_share: float = 0.1
    max_punctuation_share: float = 0.25
    max_punctuation_share_zh: float = 0.3
    max_digit_share: float = 0.35
    max_url_share: float = 0.2
    min_line_columns: float = 8.0
    max_duplicate_line_share: float = 0.4
    max_repeated_ngram_share: float = 0.4
    max_top_ngram_share: float = 0.2
    min_distinct_word_share: float = 0.25
    min_distinct_word_share_zh: float = 0.33
    min_function_word_share: float = 0.12
    min_function_word_share_zh: float = 0.02
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            key = f"clean.{field.name}"
            if field.name in ("languages", "cjk_length_scale", "shards_at_once"):
                continue
            require(value >= 0, key, value, "must not be negative", f"{key}={field.default}")
            if "_share" in field.name:
                require(value <= 1, key, value, "must be at most 1: it is a share", f"{key}={field.default}")
        require(
            self.min_chars <= self.max_chars,
            "clean.min_chars",
            self.min_chars,
            f"must not be above clean.max_chars={self.max_chars}",
            "clean.min_chars=100",
        )
        require(
            self.cjk_length_scale > 0,
            "clean.cjk_length_scale",
            self.cjk_length_scale,
            "must be above 0",
            "clean.cjk_length_scale=0.4",
        )
        require(
            self.shards_at_once >= 1,
            "clean.shards_at_once",
            self.shards_at_once,
            "must be at least 1",
            "clean.shards_at_once=16",
        )
