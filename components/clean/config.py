"""Settings of the step `clean`: which rules, and what to change in them without writing a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from components.configuring import require, runtime


@dataclass(frozen=True)
class CleanConfig:
    """Which documents are kept.

    The rules and their thresholds are in a YAML file, a profile for each language or kind of text. A field here that is
    not None takes the place of the threshold of that name in every profile that has such a rule (Chinese and Japanese
    have lengths scaled, as the file says); `thresholds` does so for any rule, or for one profile alone.

    Attributes:
        languages: Languages kept (ISO 639 codes), rule `language`; empty keeps all.
        profiles: Profile by source or language, where not the file's: {"my-poems": "poems"}.
        thresholds: Threshold by rule ("max_url_share") or by profile and rule ("zh.min_chars"); "off" switches it off.
        min_chars: Fewest characters.
        max_chars: Most characters.
        max_mojibake_share: Most characters that betray a wrong decoding.
        min_letter_share: Fewest letters and hanzi.
        max_symbol_share: Most symbols.
        max_punctuation_share: Most punctuation marks.
        max_digit_share: Most digits.
        max_url_share: Most characters of URLs.
        min_line_columns: Shortest mean line, in columns.
        max_duplicate_line_share: Most characters in lines that repeat an earlier line.
        max_repeated_ngram_share: Most 5-grams that repeat an earlier one.
        max_top_ngram_share: Most words taken by repeats of the most frequent 3-gram.
        min_distinct_word_share: Fewest distinct words in a hundred.
        min_function_word_share: Fewest function words.
        max_toxicity: Most words of the list given to the step `score`; None switches the rule off.
        min_quality: Lowest score of the step `quality`; None switches the rule off.
        keep_opted_out: Keep documents whose page or site asks that no model learns from them.
        licences: Licences kept, as patterns ("CC-BY*", "https://creativecommons.org/*"; "unknown" where a document
            names none); empty keeps all. Rule `licence`.
        refused_licences: Licences dropped, as patterns.
        max_documents_per_host: Most documents of one host; None for no limit. Which ones is chosen by their ids, which
            are hashes: the same ones on every run, and spread over the host.
        max_chars_per_host: Documents of one host are kept until they have this many characters.
        max_documents_per_source: Most documents of one source.
        max_chars_per_source: Documents of one source are kept until they have this many characters.
        shards_at_once: Shards between two looks at the clock; more of them keep more workers busy.
    """

    languages: tuple[str, ...] = ("en", "zh")
    profiles: dict[str, str] = dataclasses.field(default_factory=dict)
    thresholds: dict[str, str] = dataclasses.field(default_factory=dict)
    min_chars: int | None = None
    max_chars: int | None = None
    max_mojibake_share: float | None = None
    min_letter_share: float | None = None
    max_symbol_share: float | None = None
    max_punctuation_share: float | None = None
    max_digit_share: float | None = None
    max_url_share: float | None = None
    min_line_columns: float | None = None
    max_duplicate_line_share: float | None = None
    max_repeated_ngram_share: float | None = None
    max_top_ngram_share: float | None = None
    min_distinct_word_share: float | None = None
    min_function_word_share: float | None = None
    max_toxicity: float | None = None
    min_quality: float | None = None
    keep_opted_out: bool = False
    licences: tuple[str, ...] = ()
    refused_licences: tuple[str, ...] = ()
    max_documents_per_host: int | None = None
    max_chars_per_host: int | None = None
    max_documents_per_source: int | None = None
    max_chars_per_source: int | None = None
    shards_at_once: int = runtime(16)

    def __post_init__(self) -> None:
        for name in (*OVERRIDES, "max_toxicity", "min_quality"):
            value = getattr(self, name)
            share = "_share" in name or name in ("max_toxicity", "min_quality")
            _require_bound(f"clean.{name}", value, share)
        for key, text in self.thresholds.items():
            _require_threshold(key, text)
        for name in CAPS:
            value, key = getattr(self, name), f"clean.{name}"
            require(value is None or value >= 1, key, value, "must be at least 1", f"{key}=1000, or null for no limit")
        low, high = self.min_chars, self.max_chars
        above = f"must not be above clean.max_chars={high}"
        require(low is None or high is None or low <= high, "clean.min_chars", low, above, "clean.min_chars=100")
        at_once, key = self.shards_at_once, "clean.shards_at_once"
        require(at_once >= 1, key, at_once, "must be at least 1", f"{key}=16")


CAPS = ("max_documents_per_host", "max_chars_per_host", "max_documents_per_source", "max_chars_per_source")
OVERRIDES = (
    "min_chars",
    "max_chars",
    "max_mojibake_share",
    "min_letter_share",
    "max_symbol_share",
    "max_punctuation_share",
    "max_digit_share",
    "max_url_share",
    "min_line_columns",
    "max_duplicate_line_share",
    "max_repeated_ngram_share",
    "max_top_ngram_share",
    "min_distinct_word_share",
    "min_function_word_share",
)
"""Fields that set the threshold of the rule of their name."""


def _require_bound(key: str, value: float | None, share: bool) -> None:
    require(
        value is None or value >= 0, key, value, "must not be negative", f"{key}=null, which leaves it to the rules"
    )
    within = value is None or not share or value <= 1
    require(within, key, value, "must be at most 1: it is a share", f"{key}=null, which leaves it to the rules")


def _require_threshold(key: str, text: str) -> None:
    if text == "off":
        return
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    name = f"clean.thresholds.{key}"
    require(0 <= value < float("inf"), name, text, 'must be a number that is not negative, or "off"', f"{name}=off")
