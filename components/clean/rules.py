"""The rules, as a table: which statistic of which languages must lie within which bound.

A rule's name is its threshold's key in the config, so the ledger, the config and the command line speak of one thing.
Rules are tried in the order of the table, cheap certainties before finer judgements; the first broken one drops.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.clean.config import CleanConfig
from components.clean.statistics import TextStatistics

CJK = ("zh", "ja")


@dataclass(frozen=True)
class Rule:
    """One bound on one statistic.

    Attributes:
        name: Name in the ledger and key in the config; `min_...` bounds from below, `max_...` from above.
        statistic: Name of the bounded number in `TextStatistics`.
        threshold: The bound; a text at the bound is kept.
        only: Languages it holds for; empty for all.
        never: Languages it does not hold for.
    """

    name: str
    statistic: str
    threshold: float
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def holds_for(self, lang: str) -> bool:
        """Tells whether the rule is for this language."""
        return lang not in self.never and (not self.only or lang in self.only)

    def broken_by(self, value: float) -> bool:
        """Tells whether a value of the statistic breaks the rule."""
        return value < self.threshold if self.name.startswith("min_") else value > self.threshold


@dataclass(frozen=True)
class Breach:
    """Why a text is dropped: the rule with the value that broke it, as text for the ledger."""

    rule: str
    value: str
    threshold: str


def rules_of(config: CleanConfig) -> tuple[Rule, ...]:
    """The table of rules with a config's thresholds."""
    short, long = (round(chars * config.cjk_length_scale) for chars in (config.min_chars, config.max_chars))
    return (
        Rule("min_chars", "chars", config.min_chars, never=CJK),
        Rule("min_chars", "chars", short, only=CJK),
        Rule("max_chars", "chars", config.max_chars, never=CJK),
        Rule("max_chars", "chars", long, only=CJK),
        Rule("max_mojibake_share", "mojibake_share", config.max_mojibake_share),
        Rule("min_letter_share", "letter_share", config.min_letter_share),
        Rule("max_symbol_share", "symbol_share", config.max_symbol_share),
        Rule("max_punctuation_share", "punctuation_share", config.max_punctuation_share, never=CJK),
        Rule("max_punctuation_share_zh", "punctuation_share", config.max_punctuation_share_zh, only=CJK),
        Rule("max_digit_share", "digit_share", config.max_digit_share),
        Rule("max_url_share", "url_share", config.max_url_share),
        Rule("min_line_columns", "line_columns", config.min_line_columns),
        Rule("max_duplicate_line_share", "duplicate_line_share", config.max_duplicate_line_share),
        Rule("max_repeated_ngram_share", "repeated_ngram_share", config.max_repeated_ngram_share),
        Rule("max_top_ngram_share", "top_ngram_share", config.max_top_ngram_share),
        Rule("min_distinct_word_share", "distinct_word_share", config.min_distinct_word_share, never=CJK),
        Rule("min_distinct_word_share_zh", "distinct_word_share", config.min_distinct_word_share_zh, only=CJK),
        Rule("min_function_word_share", "function_word_share", config.min_function_word_share, only=("en",)),
        Rule("min_function_word_share_zh", "function_word_share", config.min_function_word_share_zh, only=("zh",)),
    )


def first_breach(statistics: TextStatistics, lang: str, rules: tuple[Rule, ...]) -> Breach | None:
    """The first rule of the table that a text breaks; None if it breaks none."""
    for rule in rules:
        value = getattr(statistics, rule.statistic)
        if rule.holds_for(lang) and rule.broken_by(value):
            return Breach(rule.name, f"{value:.4g}", f"{rule.threshold:.10g}")
    return None
