"""Words without a segmenter: a run of letters or digits is a word, and so is every hanzi or kana.

Words are 64-bit hashes in reading order, so that repetition of words and n-grams is counting equal numbers. A batch of
many texts is handled as one long text: its documents are neighbours, and no word or n-gram reaches across two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from components.score.characters import (
    DIGIT,
    HAN,
    KANA,
    LATIN,
    LATIN_UPPER,
    LETTER,
    NUM_CLASSES,
    RARE,
    UPPER,
    Classes,
    Codes,
)

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well spread: 2^64 over the golden ratio
_MAX_LETTERS = 64  # letters of a word beyond these share their weights with earlier ones


@dataclass(frozen=True)
class Words:
    """The words of a batch, in order.

    Attributes:
        hashes: One hash a word.
        places: Index of its first character in the batch.
        lengths: Its characters.
        docs: Its document.
        bounds: First word of each document, and the number of all words at the end.
        letters: Whether it has a letter (a number has none).
    """

    hashes: Hashes
    places: Places
    lengths: Places
    docs: Places
    bounds: Places
    letters: NDArray[np.bool_]


def _mask(*classes: int) -> NDArray[np.bool_]:
    mask = np.zeros(NUM_CLASSES, dtype=np.bool_)
    mask[list(classes)] = True
    return mask


WIDE = _mask(HAN, KANA, RARE)
LETTERS = _mask(LETTER, LATIN, UPPER, LATIN_UPPER, HAN, KANA, RARE)
_INSIDE = LETTERS | _mask(DIGIT)


def find_words(lowered: Codes, classes: Classes, ends: Places) -> Words:
    """The words of a batch.

    Args:
        lowered: Code points of the batch, lower-cased; each document ends with a newline.
        classes: Their classes.
        ends: Index behind the newline of each document.
    """
    wide = WIDE.take(classes)
    inside = _INSIDE.take(classes)
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | wide[1:] | wide[:-1]
    letter_places = np.flatnonzero(inside)
    starts = np.flatnonzero(begins.take(letter_places))
    places = letter_places.take(starts)
    bounds = np.concatenate(([0], np.searchsorted(places, ends)))
    docs = np.repeat(np.arange(len(ends)), np.diff(bounds))
    if not len(starts):
        nothing = np.zeros(0, dtype=np.int64)
        return Words(nothing.astype(np.uint64), nothing, nothing, docs, bounds, nothing.astype(np.bool_))
    lengths = np.diff(starts, append=len(letter_places))
    position = np.arange(len(letter_places)) - np.repeat(starts, lengths)
    letters = lowered.take(letter_places).astype(np.uint64) + np.uint64(1)
    letters *= _weights().take(position, mode="wrap")
    digits = np.add.reduceat((classes.take(letter_places) == DIGIT).astype(np.int64), starts)
    return Words(mix(np.add.reduceat(letters, starts)), places, lengths, docs, bounds, digits < lengths)


def mix(values: Hashes) -> Hashes:
    """Spreads the bits of sums, so that equal low bits of sums say nothing."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(29))


@cache
def _weights() -> Hashes:
    return np.array([pow(MULTIPLIER, n + 1, 1 << 64) for n in range(_MAX_LETTERS)], dtype=np.uint64)
