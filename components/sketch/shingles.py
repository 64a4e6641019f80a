"""A folded text as a set of hashed character n-grams.

Characters, not words, in every language: a change of one letter spoils n shingles of characters but n words' worth of
shingles of words, so character sets see through scattered edits that word sets do not. Hanzi carry more, so three do
where an alphabet takes five. A text shorter than a shingle is one shingle of its own, whatever its length, so that
short texts do not all look alike.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from components.sketch.folding import Codes
from components.sketch.hashing import mix

Hashes = NDArray[np.uint32]

_MULTIPLIER = 0x9E3779B97F4A7C15


def digest_of(folded: Codes) -> bytes:
    """16-byte hash of a folded text, for exact duplicates."""
    return digest_of_bytes(folded.astype("<u4").tobytes())


def digest_of_bytes(content: bytes) -> bytes:
    """16-byte hash of some bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


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


def _mixed(values: NDArray[np.uint64]) -> Hashes:
    """The upper halves of numbers after their bits are spread well."""
    return (mix(values) >> np.uint64(32)).astype(np.uint32)
