"""Words without a segmenter: a run of letters or digits is a word, and so is every hanzi or kana.

Words are 64-bit hashes in reading order, so that repetition of words and n-grams is counting equal numbers.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from components.clean.characters import DIGIT, LETTER, RARE, WIDE, Classes, Codes, classify, codes_of

Words = NDArray[np.uint64]

_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well spread: 2^64 over the golden ratio
_MAX_LETTERS = 64  # letters of a word beyond these share their weights with earlier ones
_FUNCTION_WORDS = """
    the of and to a in is you that it he was for on are as with his they i at be this have from or had by but not what
    all were we when your can there an which their if will how do my me so she her him them no yes just would about up
    out am did does don has been then than its our who why where some any very too
    的 了 是 在 我 有 不 人 这 他 们 你 就 也 和 都 那 要 说 一 个 上 到 吗 呢 么 什 与 及 为 以 对 等 中 之 而 其 还 很
    没 会 去 来 它 她 把 被 从 但 這 個 們 說 嗎 與 為 對 來 還 沒 會
"""


def hash_words(codes: Codes, classes: Classes) -> Words:
    """One hash per word of a text, in order. `codes` are those of the lower-cased text."""
    wide = (classes == WIDE) | (classes == RARE)
    inside = wide | (classes == LETTER) | (classes == DIGIT)
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | wide[1:] | wide[:-1]
    starts = np.flatnonzero(begins[inside])
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    letters = codes[inside].astype(np.uint64) + np.uint64(1)
    position = np.arange(len(letters)) - np.repeat(starts, np.diff(starts, append=len(letters)))
    return _mix(np.add.reduceat(letters * _weights()[position % _MAX_LETTERS], starts))


def hash_ngrams(words: Words, n: int) -> Words:
    """One hash per n-gram, in order; empty if there are fewer than `n` words."""
    count = len(words) - n + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    total = words[:count].copy()
    for shift in range(1, n):
        total = total * np.uint64(_MULTIPLIER) + words[shift : shift + count]
    return total


def repeated_share(words: Words, n: int) -> float:
    """Share of the n-grams that repeat an earlier one."""
    ngrams = np.sort(hash_ngrams(words, n))
    return float((ngrams[1:] == ngrams[:-1]).mean()) * (len(ngrams) - 1) / len(ngrams) if len(ngrams) > 1 else 0.0


def top_share(words: Words, n: int) -> float:
    """Share of the words that repeats of the most frequent n-gram take; its first occurrence is not counted."""
    ngrams = np.sort(hash_ngrams(words, n))
    ends = np.flatnonzero(ngrams[1:] != ngrams[:-1])
    if not len(ngrams):
        return 0.0
    most = int(np.diff(ends, prepend=-1, append=len(ngrams) - 1).max())
    return min(1.0, (most - 1) * n / len(words))


def distinct_share(words: Words, window: int) -> float:
    """Distinct words in a window of words, as a share; mean over the windows, so that long texts compare with short."""
    if not len(words):
        return 0.0
    width = min(window, len(words))
    rows = np.sort(words[: len(words) // width * width].reshape(-1, width), axis=1)
    return float(((rows[:, 1:] != rows[:, :-1]).sum(axis=1) + 1).mean()) / width


def function_share(words: Words) -> float:
    """Share of the words that are function words of English or Chinese."""
    if not len(words):
        return 0.0
    known = _function_words()
    nearest = known[np.minimum(np.searchsorted(known, words), len(known) - 1)]
    return float((nearest == words).mean())


@cache
def _function_words() -> Words:
    codes = codes_of(_FUNCTION_WORDS)
    return np.unique(hash_words(codes, classify(codes)))


@cache
def _weights() -> Words:
    return np.array([pow(_MULTIPLIER, n + 1, 1 << 64) for n in range(_MAX_LETTERS)], dtype=np.uint64)


def _mix(values: Words) -> Words:
    """Spreads the bits of sums, so that n-grams of hashes stay apart."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(29))
