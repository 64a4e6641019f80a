"""What a text looks like, in numbers: computed once, for every rule.

One pass of NumPy over the code points of a text takes the place of a dozen passes of Python. All statistics are pure
functions of the text, so thresholds can be moved without reading a text again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.clean.characters import (
    BAD,
    DIGIT,
    LETTER,
    NUM_CLASSES,
    PUNCTUATION,
    RARE,
    SPACE,
    SYMBOL,
    WIDE,
    classify,
    codes_of,
    count_misread,
)
from components.clean.words import distinct_share, function_share, hash_words, repeated_share, top_share

_URL = re.compile(r"(?:https?://|www\.)[^\s\u3000-\u9fff\uff00-\uffef]+")
_WINDOW_WORDS = 100


@dataclass(frozen=True)
class TextStatistics:
    """Numbers about a text. Shares are of its characters that are not space, unless said otherwise.

    Attributes:
        chars: Characters, spaces included.
        words: Runs of letters or digits, and single hanzi and kana.
        lines: Lines that are not empty.
        line_columns: Mean width of a line in columns.
        letter_share: Letters of any script.
        symbol_share: Marks that prose does not use, emoji among them.
        punctuation_share: Marks that prose uses.
        digit_share: Digits.
        url_share: Characters of URLs.
        mojibake_share: Replacement, control and private characters, hanzi hardly anybody uses, and runs of accented
            letters such as UTF-8 read as Latin-1 gives.
        duplicate_line_share: Characters in lines that repeat an earlier line.
        repeated_ngram_share: Share of n-grams that repeat an earlier one (n = 5 words, 10 in hanzi).
        top_ngram_share: Share of the words taken by repeats of the most frequent n-gram (n = 3 words, 6 in hanzi).
        distinct_word_share: Distinct words among a hundred, mean over the text.
        function_word_share: Share of the words that are function words of English or Chinese.
    """

    chars: int
    words: int
    lines: int
    line_columns: float
    letter_share: float
    symbol_share: float
    punctuation_share: float
    digit_share: float
    url_share: float
    mojibake_share: float
    duplicate_line_share: float
    repeated_ngram_share: float
    top_ngram_share: float
    distinct_word_share: float
    function_word_share: float


def measure(text: str) -> TextStatistics:
    """Computes all statistics of a text; those of an empty text are zero."""
    codes = codes_of(text.lower())
    classes = classify(codes)
    counts = np.bincount(classes, minlength=NUM_CLASSES).tolist()
    visible = max(1, len(codes) - counts[SPACE])
    wide = counts[WIDE] + counts[RARE]
    words = hash_words(codes, classes)
    scale = 2 if 2 * wide > len(words) else 1  # two hanzi say about as much as one word
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    return TextStatistics(
        chars=len(text),
        words=len(words),
        lines=len(lines),
        line_columns=(sum(map(len, lines)) + wide) / max(1, len(lines)),
        letter_share=(counts[LETTER] + wide) / visible,
        symbol_share=counts[SYMBOL] / visible,
        punctuation_share=counts[PUNCTUATION] / visible,
        digit_share=counts[DIGIT] / visible,
        url_share=sum(map(len, _URL.findall(text))) / visible,
        mojibake_share=min(1.0, (counts[BAD] + counts[RARE] + count_misread(codes)) / visible),
        duplicate_line_share=_duplicate_share(lines),
        repeated_ngram_share=repeated_share(words, 5 * scale),
        top_ngram_share=top_share(words, 3 * scale),
        distinct_word_share=distinct_share(words, _WINDOW_WORDS),
        function_word_share=function_share(words),
    )


def _duplicate_share(lines: Sequence[str]) -> float:
    """Characters in lines that repeat an earlier one, as a share of all."""
    total = sum(map(len, lines))
    return 1 - sum(map(len, set(lines))) / total if total else 0.0
