"""Every character of many texts in one of fourteen classes, by one table look-up over all of them at once.

The classes serve Chinese and English alike: hanzi and kana are wide letters, full-width marks count as the punctuation
they are, and hanzi outside common use are a class of their own, because text read in a wrong encoding is full of them.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]
Classes = NDArray[np.uint8]

OTHER, LETTER, LATIN, UPPER, LATIN_UPPER, HAN, KANA, DIGIT, PUNCTUATION, SYMBOL, SPACE, NEWLINE, BAD, RARE = range(14)
NUM_CLASSES = 16
# Punctuation that prose uses, half and full width; all other marks count as symbols.
_PROSE_MARKS = frozenset(
    ".,;:!?'\"()-~\u2013\u2014\u2015\u2018\u2019\u201c\u201d\u2026\u00a1\u00bf\u00ab\u00bb\u00b7"
    "\u3001\u3002\u300a\u300b\u300c\u300d\u300e\u300f\u3010\u3011\uff0c\uff0e\uff1b\uff1a\uff01\uff1f\uff08\uff09\uff5e"
)
# Where Windows-1252 has bytes 0x80 to 0x9f, those that are not among the common dashes and quotes.
_WINDOWS = np.array(
    [0x20AC, 0x0192, 0x02C6, 0x0160, 0x0161, 0x0152, 0x0153, 0x017D, 0x017E, 0x0178, 0x02DC, 0x2122], dtype=np.uint32
)


def codes_of(text: str) -> Codes:
    """The code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def classify(codes: Codes) -> Classes:
    """The class of each code point."""
    classes: Classes = _table().take(codes, mode="clip")
    beyond = codes > 0xFFFF
    if beyond.any():
        classes[beyond] = np.where((codes[beyond] >= 0x20000) & (codes[beyond] < 0x40000), RARE, SYMBOL)
    return classes


def lower(codes: Codes) -> Codes:
    """Each code point in lower case, where that is one code point; the others stay."""
    lowered: Codes = _lower_table().take(codes, mode="clip")
    beyond = codes > 0xFFFF
    if beyond.any():
        lowered[beyond] = codes[beyond]
    return lowered


def find_misread(codes: Codes) -> NDArray[np.int64]:
    """Places of characters in runs of three or more from the upper half of Latin-1, accented letters among them.

    No language writes so, but UTF-8 or GBK read as Latin-1 or Windows-1252 does.
    """
    upper = (codes >= 0x80) & (codes <= 0xFF)
    if len(codes) < 3 or not upper.any():
        return np.zeros(0, dtype=np.int64)
    letters = (codes >= 0xC0) & (codes <= 0xFF)
    upper |= ((codes >= 0x2013) & (codes <= 0x203A)) | np.isin(codes, _WINDOWS)
    triple = upper[:-2] & upper[1:-1] & upper[2:] & (letters[:-2] | letters[1:-1] | letters[2:])
    inside = np.zeros(len(codes), dtype=np.bool_)
    for shift in range(3):
        inside[shift : len(codes) - 2 + shift] |= triple
    return np.flatnonzero(inside)


@cache
def _table() -> Classes:
    """The class of every code point of the basic plane."""
    table = np.array([_class_of(chr(code)) for code in range(0x10000)], dtype=np.uint8)
    table[0xD800:0xE000] = BAD
    return table


@cache
def _lower_table() -> Codes:
    lowered = [chr(code).lower() for code in range(0x10000)]
    return np.array([ord(low) if len(low) == 1 else code for code, low in enumerate(lowered)], dtype=np.uint32)


def _class_of(char: str) -> int:
    category = unicodedata.category(char)
    if char == "\n":
        return NEWLINE
    if char.isspace() or category[0] == "Z":
        return SPACE
    if char == "\ufffd" or category in ("Cc", "Co", "Cn"):
        return BAD
    if "\u3041" <= char <= "\u30ff":
        return KANA
    if "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff":
        return HAN if char in _common_hanzi() else RARE
    if category[0] in "LM":
        return _letter_of(char, category)
    if category[0] == "N":
        return DIGIT
    if char in _PROSE_MARKS:
        return PUNCTUATION
    return SYMBOL if category[0] in "PS" else OTHER


def _letter_of(char: str, category: str) -> int:
    latin = char < "\u0250" or "\u1e00" <= char <= "\u1eff" or "\uff21" <= char <= "\uff5a"
    if category == "Lu":
        return LATIN_UPPER if latin else UPPER
    return LATIN if latin else LETTER


@cache
def _common_hanzi() -> frozenset[str]:
    """Hanzi in use: all of GB 2312 and the first level of Big5."""
    found: set[str] = set()
    for codec, leads, first_trail in (("gb2312", range(0xB0, 0xF8), 0xA1), ("big5", range(0xA4, 0xC7), 0x40)):
        cells = (bytes((lead, trail)) for lead in leads for trail in range(first_trail, 0xFF))
        found.update(char for cell in cells if (char := cell.decode(codec, "ignore")))
    return frozenset(found)
