"""A text as words and what stands between them, so that words can be moved and the rest stays.

A word is a run of letters and digits of a script with spaces, a Chinese word of a given list (the longest that fits),
or a single Chinese character. Joining the parts gives the text back, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

Segment: TypeAlias = Callable[[str], Iterable[str]]

_CHINESE = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_CHINESE}]+|[^\W_{_CHINESE}]+(?:['\u2019-][^\W_{_CHINESE}]+)*")
_IS_CHINESE = re.compile(f"[{_CHINESE}]")


@dataclass(frozen=True)
class Parts:
    """A text in parts.

    Attributes:
        words: The words.
        gaps: What stands before each word, and at the end what stands after the last.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    def joined(self) -> str:
        """The text."""
        pairs = zip(self.gaps, (*self.words, ""), strict=True)
        return "".join(gap + word for gap, word in pairs)


def split(text: str, segment: Segment) -> Parts:
    """Takes a text apart.

    Args:
        text: The text.
        segment: Cuts a run of Chinese characters into words that add up to it.
    """
    words: list[str] = []
    gaps: list[str] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        end = match.end()
        for word in segment(match.group()) if is_chinese(match.group()) else (match.group(),):
            words.append(word)
            gaps.append(gap)
            gap = ""
    return Parts(tuple(words), (*gaps, text[end:]))


def is_chinese(word: str) -> bool:
    """Whether a word begins with a Chinese character."""
    return _IS_CHINESE.match(word) is not None


def longest_match(known: Collection[str]) -> Segment:
    """Cuts a run into the longest known words from the left, and single characters where none fits."""
    words = frozenset(word for word in known if len(word) > 1)
    longest = max(map(len, words), default=1)

    def segment(run: str) -> Iterable[str]:
        at = 0
        while at < len(run):
            sizes = range(min(longest, len(run) - at), 1, -1)
            size = next((size for size in sizes if run[at : at + size] in words), 1)
            yield run[at : at + size]
            at += size

    return segment
