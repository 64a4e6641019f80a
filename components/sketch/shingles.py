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

from components.sketch.folding import Codes, Places
from components.sketch.hashing import Stretches

Hashes = NDArray[np.uint32]


def digest_of(folded: Codes) -> bytes:
    """16-byte hash of a folded text, for exact duplicates."""
    return digest_of_bytes(folded.astype("<u4").tobytes())


def digest_of_bytes(content: bytes) -> bytes:
    """16-byte hash of some bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def shingles_of(folded: Codes, n: int) -> Hashes:
    """The set of a folded text's character n-grams: sorted, each once, hashed to 32 bits."""
    bounds = np.array([0, len(folded)], dtype=np.int64)
    return shingle_sets(Stretches(folded), bounds[:1], bounds[1:], n)[0]


def shingle_sets(stretches: Stretches, starts: Places, ends: Places, n: int) -> tuple[Hashes, Places]:
    """The sets of several texts that lie one after the other.

    Args:
        stretches: Hashes of all of them.
        starts: Where each begins.
        ends: Where each ends; one shorter than a shingle is one shingle of its own.
        n: Characters of a shingle.

    Returns:
        The sets one after the other, each sorted; and where each begins, with the end of the last.
    """
    counts = np.maximum(ends - starts - n + 1, 1)
    owner = np.repeat(np.arange(len(starts)), counts)
    first = np.cumsum(counts) - counts
    places = np.arange(len(owner)) + (starts - first)[owner]
    hashes = np.zeros(len(owner), dtype=np.uint64)
    windows = stretches.windows(n)
    whole = np.flatnonzero(ends - starts < n)
    is_whole = np.isin(owner, whole) if len(whole) else np.zeros(len(owner), dtype=np.bool_)
    hashes[~is_whole] = windows[places[~is_whole]]
    hashes[first[whole]] = stretches.hashes(starts[whole], ends[whole])
    keys = (owner.astype(np.uint64) << np.uint64(32)) | (hashes >> np.uint64(32))
    keys.sort()
    fresh = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    keys = keys[fresh]
    offsets = np.searchsorted(keys, np.arange(len(starts) + 1, dtype=np.uint64) << np.uint64(32))
    return keys.astype(np.uint32), offsets


def jaccard(first: Hashes, second: Hashes) -> float:
    """Similarity of two shingle sets: what they share over what either has."""
    both = np.sort(np.concatenate((first, second)))
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(both) - shared)
