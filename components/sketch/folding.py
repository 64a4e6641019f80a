"""A text without what does not make it another text: case, width, spacing, marks, traditional or simplified forms.

Every comparison of texts (copies, repeated lines, evaluation items) is made on folded code points. One table over the
basic plane does it all at once; the forms of hanzi come from OpenCC's table of single characters, which is data inside
a wheel. It maps a traditional form to its first simplified one, also in Japanese text: keys only need to agree, nobody
reads them. Documents themselves are never changed.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from components.sketch.config import is_cjk

Codes = NDArray[np.uint32]
Places = NDArray[np.int64]

SPACE = 0x20
_BASIC = 0x10000
_HANZI = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


@dataclass(frozen=True)
class Folded:
    """A folded text and where it comes from.

    Attributes:
        codes: Its code points.
        places: For each of them, the character of the text that it stands for; ascending.
        raw: The code points of the text itself.
    """

    codes: Codes
    places: Places
    raw: Codes


def fold(text: str, lang: str) -> Codes:
    """The code points of a folded text, see `fold_with_places`."""
    return fold_with_places(text, lang).codes


def fold_with_places(text: str, lang: str) -> Folded:
    """Folds a text and keeps track of its characters.

    Marks and spaces between words become one space, in Chinese and Japanese nothing. A text of marks alone is its own
    fold.

    Args:
        text: The text.
        lang: Its language, an ISO 639 code.
    """
    raw: Codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    table, letters = _tables()
    small = raw < _BASIC
    if small.all():
        codes, inside = table[raw], letters[raw]
    else:
        low = np.where(small, raw, 0)
        codes, inside = np.where(small, table[low], raw), letters[low] | ~small
    if not inside.any():
        return Folded(codes, np.arange(len(raw)), raw)
    if not is_cjk(lang):
        gaps = inside[:-1] & ~inside[1:]
        codes[1:][gaps] = SPACE
        inside[1:] |= gaps
    places = np.flatnonzero(inside)
    if codes[places[-1]] == SPACE:
        places = places[:-1]
    return Folded(codes[places], places, raw)


def line_spans(folded: Folded) -> tuple[Places, Places, Places, Places]:
    """The lines of a text, empty ones left out.

    Returns:
        For each line: its first and past-the-last character in the text, then the same in the folded text (a gap at
        its end not counted).
    """
    breaks = np.flatnonzero(folded.raw == 0x0A)
    starts = np.concatenate(([0], breaks + 1))
    ends = np.concatenate((breaks, [len(folded.raw)]))
    first, last = np.searchsorted(folded.places, starts), np.searchsorted(folded.places, ends)
    filled = last > first
    last -= filled & (folded.codes[np.maximum(last - 1, 0)] == SPACE)
    filled = last > first
    return starts[filled], ends[filled], first[filled], last[filled]


def is_hanzi(codes: Codes) -> NDArray[np.bool_]:
    """Which code points are hanzi."""
    found = np.zeros(len(codes), dtype=np.bool_)
    for low, high in _HANZI:
        found |= (codes >= low) & (codes <= high)
    return found


@cache
def _tables() -> tuple[Codes, NDArray[np.bool_]]:
    """For the basic plane: what each code point is folded to, and whether it is part of a word."""
    simple = simplified_forms()
    table = np.arange(_BASIC, dtype=np.uint32)
    inside = np.zeros(_BASIC, dtype=np.bool_)
    for code in range(_BASIC):
        char = chr(code)
        folded = unicodedata.normalize("NFKC", char).casefold()
        if len(folded) == 1 and folded != " ":
            table[code] = ord(simple.get(folded, folded))
        is_vowel_sign = unicodedata.category(char)[0] == "M" and not 0xFE00 <= code <= 0xFE0F
        inside[code] = char.isalnum() or is_vowel_sign
    return np.where(table < _BASIC, table[table % _BASIC], table), inside  # so that folding twice is folding once


@cache
def simplified_forms() -> dict[str, str]:
    """The simplified form of each traditional hanzi that has another one, by OpenCC's table."""
    lines = files("opencc").joinpath("dictionary/TSCharacters.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line.strip())
    return {old: new for old, new, *_ in pairs if old != new}


@cache
def traditional_forms() -> dict[str, str]:
    """A traditional form of each simplified hanzi: the inverse of `simplified_forms`, the first form of each."""
    forms: dict[str, str] = {}
    for old, new in simplified_forms().items():
        forms.setdefault(new, old)
    return forms
