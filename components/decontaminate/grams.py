"""Texts as sequences of words and hanzi, and hashes of their n-grams.

A token is a hanzi (or kana), or a run of other letters and digits between two marks or spaces. Case, width, spacing,
line breaks, punctuation and traditional or simplified forms leave no trace in tokens, so they cannot hide a leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from components.sketch.folding import SPACE, Codes, fold_with_places, is_hanzi
from components.sketch.hashing import Keys, Stretches

Places = NDArray[np.int64]

_KANA = (0x3040, 0x30FF)
_WITHIN_A_SENTENCE = ",，、'’‘-_/·*#>` \t\r\u00a0\u3000"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text.

    Attributes:
        starts: Place of each token's first character in the text.
        ends: Place after its last character.
        are_hanzi: Which tokens are hanzi or kana.
        stretches: Hashes of n-grams.
        raw: The code points of the text.
    """

    starts: Places
    ends: Places
    are_hanzi: NDArray[np.bool_]
    stretches: Stretches
    raw: Codes

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def mostly_hanzi(self) -> bool:
        """Whether half of the tokens or more are hanzi."""
        return bool(2 * int(self.are_hanzi.sum()) >= max(1, len(self)))

    def grams(self, n: int) -> Keys:
        """The hashes of all n-grams, by the token they start at."""
        return self.stretches.windows(n)

    @cached_property
    def breaks(self) -> NDArray[np.bool_]:
        """Whether a sentence or line ends before each token; one more for the end of the text."""
        inner = np.frombuffer(_WITHIN_A_SENTENCE.encode("utf-32-le"), dtype="<u4")
        ending = np.concatenate(([0], np.cumsum(~np.isin(self.raw, inner))))
        before = np.ones(len(self) + 1, dtype=np.bool_)
        before[1:-1] = ending[self.starts[1:]] > ending[self.ends[:-1]]
        return before


def tokens_of(text: str) -> Tokens:
    """Takes a text apart."""
    folded = fold_with_places(text, "")
    codes = folded.codes
    single = is_hanzi(codes) | ((codes >= _KANA[0]) & (codes <= _KANA[1]))
    space = codes == SPACE
    apart = single | space
    begins = ~space
    begins[1:] &= single[1:] | apart[:-1]
    starts = np.flatnonzero(begins)
    stops = begins | space
    stops = np.append(stops, True)
    ends = np.flatnonzero(stops)
    ends = ends[np.searchsorted(ends, starts, side="right")]
    hashes = Stretches(codes).hashes(starts, ends)
    places = folded.places
    return Tokens(places[starts], places[ends - 1] + 1, single[starts], Stretches(hashes), folded.raw)
