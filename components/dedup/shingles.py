"""A text as a set of hashed character n-grams, without regard to case, width, spacing or punctuation.

Characters, not words, in every language: a change of one letter spoils n shingles of characters but n words' worth of
shingles of words, so character sets see through scattered edits that word sets do not. Hanzi carry more, so three do
where an alphabet takes five. A text shorter than a shingle is one shingle of its own, whatever its length, so that
short texts do not all look alike.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint32]

_CJK = ("zh", "ja")
_SPACE = 0x20
_FULL_WIDTH = (0xFF01, 0xFF5E)  # the full-width forms of ASCII from "!" on
_MULTIPLIER = 0x9E3779B97F4A7C15


def fold(text: str, lang: str) -> Codes:
    """The code points of a text without what does not make it another text.

    Case and width are folded; marks and spaces between words become one space, in Chinese and Japanese nothing. A
    text of marks alone is its own fold.
    """
    codes: Codes = np.frombuffer(text.casefold().encode("utf-32-le", "surrogatepass"), dtype="<u4").copy()
    codes[(codes >= _FULL_WIDTH[0]) & (codes <= _FULL_WIDTH[1])] -= _FULL_WIDTH[0] - 0x21
    inside = _letters()[np.minimum(codes, 0xFFFF)] | (codes > 0xFFFF)
    if not inside.any():
        return codes
    if lang in _CJK:
        return codes[inside]
    gaps = np.zeros(len(codes), dtype=np.bool_)
    gaps[1:] = inside[:-1] & ~inside[1:]
    codes[gaps] = _SPACE
    folded = codes[inside | gaps]
    return folded[:-1] if folded[-1] == _SPACE else folded


def digest_of(folded: Codes) -> bytes:
    """16-byte hash of a folded text, for exact duplicates."""
    return hashlib.blake2b(folded.astype("<u4").tobytes(), digest_size=16).digest()


def shingles_of(folded: Codes, n: int) -> Hashes:
    """The set of a folded text's character n-grams: sorted, each once, hashed to 32 bits."""
    n = max(1, min(n, len(folded)))
    codes = folded.astype(np.uint64)
    count = len(codes) - n + 1
    total = codes[:count].copy()
    for shift in range(1, n):
        total *= np.uint64(_MULTIPLIER)
        total += codes[shift : shift + count]
    hashes = np.sort(_mixed(total))
    first = np.ones(len(hashes), dtype=np.bool_)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return hashes[first]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Similarity of two shingle sets: what they share over what either has."""
    both = np.sort(np.concatenate((first, second)))
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)


@cache
def _letters() -> NDArray[np.bool_]:
    """Which code points of the basic plane are letters or digits."""
    return np.array([chr(code).isalnum() for code in range(0x10000)])


def _mixed(values: NDArray[np.uint64]) -> Hashes:
    """The upper halves of numbers after their bits are spread well."""
    return (mix(values) >> np.uint64(32)).astype(np.uint32)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads every bit of a number over all of it."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(32))
