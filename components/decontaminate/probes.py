"""Planted leaks: items of this run, disguised and put into made-up documents, to measure what the search finds.

The made-up text around them is words and hanzi of the items themselves in another order: as like them as text can be
that holds none of them. The disguises are those that are known to defeat others: line breaks after every eighth
word, long filler around the item and a sentence of it between its parts, the other script (traditional for simplified
Chinese and the other way round; capitals and full-width letters for alphabets), and none at all.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.grams import tokens_of
from components.decontaminate.index import CHECKED, Index
from components.decontaminate.items import Item
from components.decontaminate.match import find_leaks
from components.sketch.folding import simplified_forms, traditional_forms

_WRAP = 8
_CAPITALS = {ord(char): ord(char.upper()) + 0xFEE0 for char in string.ascii_letters}  # and full-width
_SENTENCE = 9


@dataclass(frozen=True)
class Proof:
    """What was found of what was planted.

    Attributes:
        planted: Probes by disguise.
        found: Those of them that were found.
        missed: Ids of items that were not, with the disguise: "verbatim items/7".
        clean: Made-up documents without any item.
        false_hits: Those in which one was found all the same.
    """

    planted: dict[str, int]
    found: dict[str, int]
    missed: list[str]
    clean: int
    false_hits: int

    @property
    def recall(self) -> float:
        """Share of all probes that was found; 1 if none was planted."""
        planted = sum(self.planted.values())
        return sum(self.found.values()) / planted if planted else 1.0


def prove(items: Sequence[Item], states: Sequence[str], index: Index, config: DecontaminateConfig, seed: int) -> Proof:
    """Plants a sample of the items that can be checked, in every disguise, and looks for them."""
    draw = random.Random(seed)
    checked = [number for number, state in enumerate(states) if state == CHECKED]
    chosen = sorted(draw.sample(checked, min(config.probes, len(checked))))
    words = _Words(items, draw)
    planted, found = dict.fromkeys(DISGUISES, 0), dict.fromkeys(DISGUISES, 0)
    missed, false_hits = [], 0
    for number in chosen:
        for name, disguise in DISGUISES.items():
            planted[name] += 1
            text = disguise(_texts(items[number]), words)
            leaks = find_leaks(text, index, config)
            if any(leak.item == number for leak in leaks):
                found[name] += 1
            else:
                missed.append(f"{name} {items[number].id}")
        clean = words.filler(items[number].parts[0])
        false_hits += bool(find_leaks(clean, index, config))
    return Proof(planted, found, missed, len(chosen), false_hits)


def _texts(item: Item) -> list[str]:
    """The parts of an item and its answer, as they would stand on a page."""
    return [*item.parts, *([item.answer] if item.answer and item.answer not in item.parts else [])]


class _Words:
    """Makes up text out of the words of the items."""

    def __init__(self, items: Sequence[Item], draw: random.Random) -> None:
        self._draw = draw
        self._pools: dict[bool, list[str]] = {True: [], False: []}
        for item in draw.sample(list(items), min(300, len(items))):
            for text in item.parts:
                tokens = tokens_of(text)
                found = [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]
                self._pools[tokens.mostly_hanzi] += found

    def filler(self, like: str, sentences: int = 40) -> str:
        """So many sentences of the same kind of script as a text."""
        hanzi = tokens_of(like).mostly_hanzi
        pool = self._pools[hanzi] or [like]
        joint, end = ("", "。") if hanzi else (" ", ".")
        made = [joint.join(self._draw.choices(pool, k=_SENTENCE)) + end for _ in range(sentences)]
        return ("" if hanzi else " ").join(made)


def _verbatim(parts: Sequence[str], words: _Words) -> str:
    return f"{words.filler(parts[0])}\n" + "\n".join(parts) + f"\n{words.filler(parts[0])}"


def _wrapped(parts: Sequence[str], words: _Words) -> str:
    return f"{words.filler(parts[0])}\n" + "\n".join(map(_wrap, parts)) + f"\n{words.filler(parts[0])}"


def _wrap(text: str) -> str:
    """A text with a line break after every eighth token."""
    tokens = tokens_of(text)
    ends = [int(end) for end in tokens.ends[_WRAP - 1 : len(tokens) - 1 : _WRAP]]
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return "\n".join(pieces)


def _embedded(parts: Sequence[str], words: _Words) -> str:
    between = [piece for part in parts for piece in (words.filler(part, 1), part)]
    return "\n".join([words.filler(parts[0]), *between, words.filler(parts[0])])


def _other_script(parts: Sequence[str], words: _Words) -> str:
    return _verbatim([_swap(part) for part in parts], words)


def _swap(text: str) -> str:
    if not tokens_of(text).mostly_hanzi:
        return text.translate(_CAPITALS)
    forms = traditional_forms() if any(char in traditional_forms() for char in text) else simplified_forms()
    return "".join(forms.get(char, char) for char in text)


DISGUISES: dict[str, Callable[[Sequence[str], _Words], str]] = {
    "verbatim": _verbatim,
    "wrapped": _wrapped,
    "embedded": _embedded,
    "other_script": _other_script,
}
