"""Which script a text is written in, and how many letters of which scripts it holds: one count over its beginning.

Characters are counted by kind (one pass in C), then each kind is looked at once, so a text costs as much as its
alphabet is large. Simplified and traditional Chinese are told apart by the characters that only one of them has, and
which those are is not a table of ours but what the two national standards say: GB 2312 holds the simplified forms,
Big5 the traditional ones, and a character in one and not the other is a vote.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache

SAMPLE_CHARS = 2_500
"""Of the text's beginning: enough to tell."""
_OTHER = ""
# First code points of runs of one script, in ascending order; ISO 15924 codes, "" for what is no letter of any.
_RUNS = (
    (0x0000, ""), (0x0041, "Latn"), (0x005B, ""), (0x0061, "Latn"), (0x007B, ""), (0x00AA, "Latn"), (0x00AB, ""),
    (0x00BA, "Latn"), (0x00BB, ""), (0x00C0, "Latn"), (0x00D7, ""), (0x00D8, "Latn"), (0x00F7, ""), (0x00F8, "Latn"),
    (0x0250, "Latn"), (0x02B0, ""), (0x0370, "Grek"), (0x0400, "Cyrl"), (0x0530, "Armn"), (0x0590, "Hebr"),
    (0x0600, "Arab"), (0x0700, "Syrc"), (0x0750, "Arab"), (0x0780, "Thaa"), (0x07C0, ""), (0x08A0, "Arab"),
    (0x0900, "Deva"), (0x0980, "Beng"), (0x0A00, "Guru"), (0x0A80, "Gujr"), (0x0B00, "Orya"), (0x0B80, "Taml"),
    (0x0C00, "Telu"), (0x0C80, "Knda"), (0x0D00, "Mlym"), (0x0D80, "Sinh"), (0x0E00, "Thai"), (0x0E80, "Laoo"),
    (0x0F00, "Tibt"), (0x1000, "Mymr"), (0x10A0, "Geor"), (0x1100, "Hang"), (0x1200, "Ethi"), (0x13A0, ""),
    (0x1780, "Khmr"), (0x1800, "Mong"), (0x18B0, ""), (0x1E00, "Latn"), (0x1F00, "Grek"), (0x2000, ""),
    (0x2C60, "Latn"), (0x2C80, ""), (0x2DE0, "Cyrl"), (0x2E00, ""), (0x3005, "Hani"), (0x3008, ""), (0x3041, "Kana"),
    (0x30FB, ""), (0x30FC, "Kana"), (0x3100, ""), (0x3131, "Hang"), (0x318F, ""), (0x31F0, "Kana"), (0x3200, ""),
    (0x3400, "Hani"), (0x4DC0, ""), (0x4E00, "Hani"), (0xA000, ""), (0xA640, "Cyrl"), (0xA6A0, ""), (0xAC00, "Hang"),
    (0xD7A4, ""), (0xF900, "Hani"), (0xFB00, "Latn"), (0xFB07, ""), (0xFB1D, "Hebr"), (0xFB50, "Arab"), (0xFE00, ""),
    (0xFE70, "Arab"), (0xFEFF, ""), (0xFF21, "Latn"), (0xFF3B, ""), (0xFF41, "Latn"), (0xFF5B, ""), (0xFF66, "Kana"),
    (0xFFA0, "Hang"), (0xFFE0, ""), (0x20000, "Hani"), (0x32000, ""),
)  # fmt: skip
_STARTS = [start for start, _ in _RUNS]
_EAST_ASIAN = ("Hani", "Kana", "Hang")
# A hanzi, kana or hangul says about as much as this many letters of an alphabet.
_WEIGHT = 3
# Japanese has a kana to every few hanzi; less than this is Chinese that quotes one.
_HANZI_PER_KANA = 20


def count_kinds(text: str) -> Counter[str]:
    """How often each character stands in the text's beginning."""
    return Counter(text[:SAMPLE_CHARS])


def count_scripts(kinds: Mapping[str, int]) -> Counter[str]:
    """Letters by script, out of characters by kind; "Hani", "Kana" and "Hang" as they stand, undecided."""
    letters: Counter[str] = Counter()
    for char, count in kinds.items():
        script = script_of(char)
        if script:
            letters[script] += count
    return letters


@lru_cache(maxsize=65_536)
def script_of(char: str) -> str:
    """ISO 15924 code of a letter's script, empty for what is no letter."""
    return _RUNS[bisect_right(_STARTS, ord(char)) - 1][1]


def is_east_asian(letters: Mapping[str, int]) -> bool:
    """Whether letters counted by script say that a text is Chinese, Japanese or Korean, foreign words and all."""
    east_asian = sum(letters.get(script, 0) for script in _EAST_ASIAN)
    return _WEIGHT * east_asian > sum(letters.values()) - east_asian


def detect_script(kinds: Mapping[str, int], letters: Mapping[str, int]) -> str:
    """The script of a text.

    Args:
        kinds: Its characters, see `count_kinds`.
        letters: Its letters by script, see `count_scripts`.

    Returns:
        An ISO 15924 code: "Latn", "Cyrl", ...; "Hans" and "Hant" for Chinese, "Hani" where nothing tells which;
        "Jpan" and "Kore". Empty if there is no letter.
    """
    if not letters:
        return ""
    if not is_east_asian(letters):
        return max(letters.items(), key=lambda item: (item[1], item[0]))[0]
    han, kana, hangul = (letters.get(script, 0) for script in _EAST_ASIAN)
    if hangul > han + kana:
        return "Kore"
    if _HANZI_PER_KANA * kana > han:
        return "Jpan"
    return _simplified_or_traditional(kinds)


def _simplified_or_traditional(kinds: Mapping[str, int]) -> str:
    simplified, traditional = _one_sided()
    votes = sum(count for char, count in kinds.items() if char in simplified)
    against = sum(count for char, count in kinds.items() if char in traditional)
    if votes == against:
        return "Hani"
    return "Hans" if votes > against else "Hant"


@cache
def _one_sided() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that only GB 2312 has, and characters that only Big5 has."""
    gb = _members("gb2312", range(0xB0, 0xF8), (0xA1, 0xFF))
    big = _members("big5", range(0xA4, 0xFA), (0x40, 0xFF))
    return gb - big, big - gb


def _members(codec: str, leads: range, trails: tuple[int, int]) -> frozenset[str]:
    cells = (bytes((lead, trail)) for lead in leads for trail in range(*trails))
    return frozenset(char for cell in cells if len(char := cell.decode(codec, "ignore")) == 1 and char > "\u33ff")
