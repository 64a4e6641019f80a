"""What can be read off texts alone: how varied replies are, in English and Chinese alike.

Units are words where a script separates them and single characters where it does not (Han, kana), so no segmenter and
no word list is needed. Case and punctuation do not count as variety.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def units(text: str) -> list[str]:
    """The words and unspaced characters of a text, lower case, in order."""
    return _UNIT.findall(text.lower())


def distinct(texts: Sequence[str], n: int) -> float:
    """Share of different n-grams among all n-grams of a set of replies (Li et al. 2016, "distinct-n").

    N-grams do not reach over replies. The share falls as a set grows, so compare sets of equal size only.

    Returns:
        Between 0 and 1; 0 if no reply has n units.
    """
    grams = [tuple(words[start : start + n]) for words in map(units, texts) for start in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
