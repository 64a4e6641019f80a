"""The four operations of easy data augmentation (Wei and Zou 2019), on words with what stands between them kept.

Each takes the parts of a text, a rate and a source of randomness. With n words and rate a, as in the paper, max(1, an)
words are replaced, synonyms inserted or pairs swapped, and every word is deleted with chance a. Punctuation, line
breaks and the rest stay; an inserted word gets a space in scripts that have them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from components.augment.words import Parts, is_chinese

Synonyms: TypeAlias = Mapping[str, Sequence[str]]


def varied(parts: Parts, operation: str, rate: float, synonyms: Synonyms, draw: random.Random) -> Parts:
    """A text after one operation; the same text where there is nothing that the operation can do."""
    return _OPERATIONS[operation](parts, rate, synonyms, draw)


def _replace(parts: Parts, rate: float, synonyms: Synonyms, draw: random.Random) -> Parts:
    words = list(parts.words)
    places = [at for at, word in enumerate(words) if word.lower() in synonyms]
    for at in draw.sample(places, min(len(places), _number(parts, rate))):
        words[at] = _written_like(draw.choice(synonyms[words[at].lower()]), words[at])
    return Parts(tuple(words), parts.gaps)


def _insert(parts: Parts, rate: float, synonyms: Synonyms, draw: random.Random) -> Parts:
    known = [word.lower() for word in parts.words if word.lower() in synonyms]
    words, gaps = list(parts.words), list(parts.gaps)
    for _ in range(_number(parts, rate) if known else 0):
        at = draw.randint(1, len(words))  # never before the first word, where a capital or a quotation mark may stand
        word = draw.choice(synonyms[draw.choice(known)])
        words.insert(at, word)
        gaps.insert(at, "" if is_chinese(word) else " ")
    return Parts(tuple(words), tuple(gaps))


def _swap(parts: Parts, rate: float, synonyms: Synonyms, draw: random.Random) -> Parts:
    words = list(parts.words)
    for _ in range(_number(parts, rate) if len(words) > 1 else 0):
        a, b = draw.sample(range(len(words)), 2)
        words[a], words[b] = words[b], words[a]
    return Parts(tuple(words), parts.gaps)


def _delete(parts: Parts, rate: float, synonyms: Synonyms, draw: random.Random) -> Parts:
    stays = [draw.random() >= rate for _ in parts.words]
    if not any(stays):
        stays[draw.randrange(len(stays))] = True
    left = [at for at, stay in enumerate(stays) if stay]
    # Between two words that stay, the longest of what stood there: it has the punctuation.
    between = [max(parts.gaps[a + 1 : b + 1], key=len) for a, b in pairwise(left)]
    return Parts(tuple(parts.words[at] for at in left), (parts.gaps[0], *between, parts.gaps[-1]))


_OPERATIONS: dict[str, Callable[[Parts, float, Synonyms, random.Random], Parts]] = {
    "replace": _replace,
    "insert": _insert,
    "swap": _swap,
    "delete": _delete,
}


def _number(parts: Parts, rate: float) -> int:
    return max(1, int(rate * len(parts.words)))


def _written_like(word: str, model: str) -> str:
    """A word with the capitals of another: none, the first, or all."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
