"""Which tokens of a row make up one word: what is masked as a whole must not give itself away by its other half.

A tokenizer may cut a word in several tokens, and the text of a row is known again from the bytes behind its ids. That
text is cut by the pattern of the "word" tokenizer: a word with the space before it, two digits, a run of punctuation,
and for Chinese a character ("pieces") or what the package jieba finds ("jieba"). A token begins a word where such a
piece begins exactly where it begins; one that covers several pieces is a word by itself.

Rows are cut out of documents anywhere, even inside a character: bytes that are no UTF-8 pass through as one letter
each.

Shapes: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.tokenizer.pieces import Cut, cut_of


def word_cut(whole_words: str, key: str) -> Cut:
    """Cuts text into words.

    Args:
        whole_words: "pieces" or "jieba".
        key: The setting that asks for it, for the error.

    Raises:
        MachineError: If jieba is asked for and not installed.
    """
    return cut_of("word", "jieba" if whole_words == "jieba" else "none", key)


def word_numbers(ids_T: NDArray[np.integer], pieces: Sequence[bytes], cut: Cut) -> NDArray[np.int64]:
    """The word that each token belongs to, counted from 0 [T].

    Args:
        ids_T: A row. Tokens without bytes (special ones) are words of their own and end the one before.
        pieces: Bytes of text behind every id, see `TextTokenizer.pieces`.
        cut: Cuts text into words.
    """
    parts = [pieces[index] for index in ids_T.tolist()]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    text = b"".join(parts).decode(errors="surrogateescape")
    words = [len(word.encode(errors="surrogateescape")) for word in cut(text)]
    borders = np.cumsum([0, *words])
    silent = sizes == 0
    begins = np.isin(starts, borders) | silent
    begins[1:] |= silent[:-1]
    numbers: NDArray[np.int64] = np.cumsum(begins) - begins[:1].sum()
    return numbers
