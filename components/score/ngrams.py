"""Spans of a sequence of hashes by one hash each, and which spans occur again in the same document.

The hash of a span is a polynomial in an odd number modulo 2^64, so that with running sums any span's hash takes one
subtraction and one multiplication (Karp and Rabin, 1987). An n-gram can only repeat where its first n - 1 words do:
of the n-grams of 2 to 10 words only the shortest are sorted in full, and prose has few candidates left after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.score.words import MULTIPLIER, Hashes, Places, Words, mix

_INVERSE = pow(MULTIPLIER, -1, 1 << 64)
_DOC_BITS = 20  # a batch has at most a million documents; 44 bits are left for the hash of a span


@lru_cache(maxsize=32)
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """The powers of the multiplier and of its inverse, for up to 2^bits values."""
    powers = np.full(((1 << bits) + 1, 2), (MULTIPLIER, _INVERSE), dtype=np.uint64)
    powers[0] = 1
    weights, back = np.cumprod(powers, axis=0).T
    return np.ascontiguousarray(weights), np.ascontiguousarray(back)


class Spans:
    """Hashes of spans of a sequence.

    Args:
        values: The sequence.
    """

    def __init__(self, values: Hashes) -> None:
        weights, self._back = _powers(len(values).bit_length())
        self._sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(values * weights[: len(values)], out=self._sums[1:])

    def hash(self, starts: Places, ends: Places) -> Hashes:
        """One hash per span [start, end); equal spans have equal hashes wherever they are."""
        return mix((self._sums.take(ends) - self._sums.take(starts)) * self._back.take(starts))


@dataclass(frozen=True)
class Repeats:
    """The n-grams of one length that occur more than once in their document.

    Attributes:
        length: n, where a document's scale is 1.
        places: Index of the first word of every occurrence, grouped by n-gram, groups in the order of documents.
        docs: Document of each occurrence.
        sizes: n of each occurrence.
        groups: Index in `places` where each group starts.
        counts: Occurrences in each group.
        first: The earliest place in each group.
    """

    length: int
    places: Places
    docs: Places
    sizes: Places
    groups: Places
    counts: Places
    first: Places


def group_by_value(docs: Places, hashes: Hashes) -> tuple[Places, NDArray[np.bool_]]:
    """Sorts values by document and hash.

    Returns:
        The sorting order, and for each sorted value whether it equals the one before.
    """
    keys = (docs.astype(np.uint64) << np.uint64(64 - _DOC_BITS)) | (hashes >> np.uint64(_DOC_BITS))
    order = np.argsort(keys)
    keys = keys.take(order)
    again = np.zeros(len(keys), dtype=np.bool_)
    np.equal(keys[1:], keys[:-1], out=again[1:])
    return order, again


def repeats_of(spans: Spans, words: Words, scales: Places, lengths: range) -> Iterator[Repeats]:
    """The repeated n-grams of each length in turn, the shortest first.

    Args:
        spans: Spans of the hashes of the words.
        words: The words of a batch.
        scales: What n is multiplied with in each document: 2 where words are hanzi, which say half as much.
        lengths: The lengths n, ascending by one.
    """
    scale = scales.take(words.docs)
    last = words.bounds[1:].take(words.docs)
    places = np.arange(len(words.docs))
    for length in lengths:
        sizes = length * scale.take(places)
        fits = places + sizes <= last.take(places)
        places, sizes = places[fits], sizes[fits]
        order, again = group_by_value(words.docs.take(places), spans.hash(places, places + sizes))
        repeated = again.copy()
        repeated[:-1] |= again[1:]
        order = order[repeated]
        places, sizes = places.take(order), sizes.take(order)
        groups = np.flatnonzero(~again[repeated])
        counts = np.diff(groups, append=len(places))
        first = np.minimum.reduceat(places, groups) if len(groups) else groups
        yield Repeats(length, places, words.docs.take(places), sizes, groups, counts, first)
