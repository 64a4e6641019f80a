"""A text without what does not make it another text: case, width, spacing, marks, traditional or simplified forms.

Every comparison of texts (copies, repeated lines, evaluation items) is made on folded code points. One table over the
basic plane does it all at once; the forms of hanzi come from OpenCC's table of single characters, which is data inside
a wheel. It maps a traditional form to its first simplified one, also in Japanese text: keys only need to agree, nobody
reads them. Documents themselves are never changed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """Folded texts and where they come from.

    Attributes:
        codes: Their code points, one text after the other.
        places: For each of them, the character that it stands for; ascending.
        raw: The code points of the texts themselves, with a line break between two.
        starts: For each text, its first folded code point.
        ends: Past its last one; between two texts may lie a gap that belongs to neither.
        firsts: For each text, its first character in `raw`.
    """

    codes: Codes
    places: Places
    raw: Codes
    starts: Places
    ends: Places
    firsts: Places


def fold(text: str, lang: str) -> Codes:
    """The code points of a folded text, see `fold_with_places`."""
    return fold_with_places(text, lang).codes


def fold_with_places(text: str, lang: str) -> Folded:
    """Folds one text: all its code points are those of the one text."""
    folded = fold_texts([text], is_cjk(lang))
    end = int(folded.ends[0])
    return replace(folded, codes=folded.codes[:end], places=folded.places[:end])


def fold_texts(texts: Sequence[str], without_gaps: bool) -> Folded:
    """Folds texts together, which costs less than one by one and changes nothing.

    Marks and spaces between words become one space, in Chinese and Japanese nothing. A text of marks alone is its own
    fold.

    Args:
        texts: The texts, at least one.
        without_gaps: Whether they are Chinese or Japanese.
    """
    raw: Codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    firsts = np.cumsum(lengths + 1) - lengths - 1
    codes, inside = _looked_up(raw)
    for number in np.flatnonzero(_sums(inside, firsts, firsts + lengths) == 0).tolist():
        marks = slice(int(firsts[number]), int(firsts[number] + lengths[number]))
        codes[marks], inside[marks] = _tables()[0].take(raw[marks].astype(np.intp)), True
    if not without_gaps:
        gaps = inside[:-1] & ~inside[1:]
        np.putmask(codes[1:], gaps, SPACE)
        inside[1:] |= gaps
    places = np.flatnonzero(inside)
    codes = codes.take(places)
    starts, ends = np.searchsorted(places, firsts), np.searchsorted(places, firsts + lengths)
    if not without_gaps and len(codes):
        ends -= (ends > starts) & (codes.take(ends - 1, mode="clip") == SPACE)
    return Folded(codes, places, raw, starts, ends, firsts)


def _looked_up(raw: Codes) -> tuple[Codes, NDArray[np.bool_]]:
    """What each code point is folded to, and whether it is part of a word; beyond the basic plane all are."""
    words = _tables()[1]
    rows = raw.astype(np.intp)
    if len(raw) and raw.max() >= _BASIC:
        codes = np.where(raw < _BASIC, words.take(rows, mode="clip"), raw)
    else:
        codes = words.take(rows)
    return codes, codes != 0


def _sums(values: NDArray[np.bool_], starts: Places, ends: Places) -> Places:
    """How many of some values are true in each stretch."""
    sums = np.concatenate(([0], np.cumsum(values)))
    counts: Places = sums[ends] - sums[starts]
    return counts


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
    if len(folded.codes):
        last -= (last > first) & (folded.codes.take(last - 1, mode="clip") == SPACE)
    filled = last > first
    return starts[filled], ends[filled], first[filled], last[filled]


def is_hanzi(codes: Codes) -> NDArray[np.bool_]:
    """Which code points are hanzi."""
    found = np.zeros(len(codes), dtype=np.bool_)
    for low, high in _HANZI:
        found |= (codes >= low) & (codes <= high)
    return found


@cache
def _tables() -> tuple[Codes, Codes]:
    """For the basic plane: what each code point is folded to, and the same with 0 for what is no part of a word."""
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
    table = np.where(table < _BASIC, table[table % _BASIC], table)  # so that folding twice is folding once
    return table, np.where(inside, table, 0).astype(np.uint32)


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
