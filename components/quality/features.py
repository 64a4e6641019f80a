"""Texts as sets of hashed words and pairs of neighbouring words, as fastText has them (Joulin et al. 2017).

Words are those of the statistics: a run of letters or digits, a single hanzi; so Chinese gets single hanzi and pairs
of them, without a segmenter. A feature is the hash of a word or a pair, cut to some bits; a text is the set of its
features with equal weights of length one. Bad examples can be made out of good ones on the hashes alone: the words in
another order, or drawn by lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.score.ngrams import Spans
from components.score.phrases import words_of
from components.score.words import Hashes, Places

Indices = NDArray[np.uint32]
MAX_CHARS_A_WORD = 12
"""A text is cut at so many characters a word before it is split, for the sake of giant ones."""


@dataclass(frozen=True)
class Features:
    """The features of some texts.

    Attributes:
        indices: Features of all texts, text by text, ascending within a text.
        counts: How many each text has.
    """

    indices: Indices
    counts: Places


def features_of(words: Sequence[Hashes], bits: int) -> Features:
    """The features of texts given as hashes of their words.

    Args:
        words: Hashes of the words of each text.
        bits: Bits of a feature.
    """
    lengths = np.array([len(one) for one in words], dtype=np.int64)
    joined = np.concatenate([*words, np.zeros(0, dtype=np.uint64)])
    docs = np.repeat(np.arange(len(words)), lengths)
    places = np.arange(max(0, len(joined) - 1))
    places = places[docs[:-1] == docs[1:]] if len(joined) else places
    pairs = Spans(joined).hash(places, places + 2)
    shift = np.uint64(64 - bits)
    found = np.concatenate((joined >> shift, pairs >> shift))
    owners = np.concatenate((docs, docs.take(places)))
    keys = np.unique((owners.astype(np.uint64) << np.uint64(bits)) | found)
    counts = np.bincount((keys >> np.uint64(bits)).astype(np.int64), minlength=len(words))
    return Features((keys & np.uint64((1 << bits) - 1)).astype(np.uint32), counts)


def hash_texts(texts: Sequence[str], max_words: int) -> list[Hashes]:
    """Hashes of the first words of each text."""
    words = words_of([text[: max_words * MAX_CHARS_A_WORD] for text in texts])
    starts, ends = words.bounds[:-1].tolist(), words.bounds[1:].tolist()
    return [words.hashes[start : min(end, start + max_words)] for start, end in zip(starts, ends, strict=True)]


def corrupt(words: Hashes, seed: int) -> Hashes:
    """Words in another order, or as many of them drawn by lot: a text that no one wrote."""
    draw = np.random.Generator(np.random.PCG64(seed))
    if not len(words) or draw.random() < 0.5:
        return draw.permutation(words)
    few = words[draw.integers(0, len(words), max(1, len(words) // 3))]
    return few[draw.integers(0, len(few), len(words))]
