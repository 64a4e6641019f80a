"""Finds evaluation items in a text: enough of an item's n-grams, close together.

What counts is how much of the *item* is there, within a stretch little longer than the item: so text around a leak,
however much, dilutes nothing. What counts is n-grams of tokens: so line breaks, marks, case and script hide nothing.
And each part of an item counts for itself: so the order of options, or text between them, does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.grams import Tokens, tokens_of
from components.decontaminate.index import ALONE_AND_ANSWERED, ALONE_OR_ANSWERED, ANYWHERE, Index, Part

_SLACK = 100  # tokens that a stretch may be longer, whatever the length of the item


@dataclass(frozen=True)
class Hit:
    """An n-gram of an item at a place of a text.

    Attributes:
        start: Its first token.
        end: Past its last token.
        gram: Which n-gram it is.
        part: Part of an item that it belongs to.
        weight: Tokens of the item that it stands for.
    """

    start: int
    end: int
    gram: int
    part: int
    weight: float


@dataclass(frozen=True)
class Leak:
    """An item found in a text.

    Attributes:
        item: Its number.
        coverage: Share of the item, or of one part of it, that was found in one stretch.
        spans: The stretches of the text that hold it, as (first character, past the last one).
    """

    item: int
    coverage: float
    spans: tuple[tuple[int, int], ...]


def find_leaks(text: str, index: Index, config: DecontaminateConfig) -> list[Leak]:
    """All items in a text, each once, by number."""
    tokens = tokens_of(text)
    hits: dict[int, list[Hit]] = defaultdict(list)
    for hit in _hits(tokens, index, config):
        hits[index.parts[hit.part].item].append(hit)
    leaks = (_leak(item, sorted(found, key=_by_place), tokens, index, config) for item, found in sorted(hits.items()))
    return [leak for leak in leaks if leak is not None]


def _by_place(hit: Hit) -> tuple[int, int, int]:
    return hit.start, hit.part, hit.gram


def _hits(tokens: Tokens, index: Index, config: DecontaminateConfig) -> Iterable[Hit]:
    for length in index.lengths:
        places, rows = index.find(tokens.grams(length))
        for start, row in zip(places.tolist(), rows.tolist(), strict=True):
            for entry in range(int(index.offsets[row]), int(index.offsets[row + 1])):
                number = int(index.entry_part[entry])
                part = index.parts[number]
                if part.length == length and _stands_right(tokens, start, part, index, config):
                    yield Hit(start, start + length, row, number, float(index.entry_weight[entry]))


def _stands_right(tokens: Tokens, start: int, part: Part, index: Index, config: DecontaminateConfig) -> bool:
    """Whether a part known as a whole is a sentence or line here, or has its answer behind it."""
    if part.place == ANYWHERE:
        return True
    end = start + part.length
    alone = bool(tokens.breaks[start] and tokens.breaks[end])
    if part.place == ALONE_OR_ANSWERED and alone:
        return True
    if part.place == ALONE_AND_ANSWERED and not alone:
        return False
    answer = index.answers[part.item]
    if not len(answer):
        return False
    reach = end + int(config.filler * index.item_tokens[part.item]) + len(answer)
    return _contains(tokens.grams(1)[end:reach], answer)


def _contains(sequence: np.ndarray, wanted: np.ndarray) -> bool:
    count = len(sequence) - len(wanted) + 1
    return any(
        (sequence[at : at + len(wanted)] == wanted).all()
        for at in np.flatnonzero(sequence[: max(0, count)] == wanted[0])
    )


def _leak(item: int, hits: Sequence[Hit], tokens: Tokens, index: Index, config: DecontaminateConfig) -> Leak | None:
    whole = index.item_tokens[item]
    stretches = [_best_stretch(hits, whole, config)]
    for number in sorted({hit.part for hit in hits if index.parts[hit.part].alone}):
        stretches.append(_best_stretch([hit for hit in hits if hit.part == number], index.parts[number].tokens, config))
    enough = [(coverage, found) for coverage, found in stretches if coverage >= config.coverage]
    if not enough:
        return None
    spans = _spans([hit for _, found in enough for hit in found], tokens, config.words)
    return Leak(item, min(1.0, max(coverage for coverage, _ in enough)), spans)


def _best_stretch(hits: Sequence[Hit], size: int, config: DecontaminateConfig) -> tuple[float, Sequence[Hit]]:
    """The stretch of a text with most of something: the share of its `size` tokens, and the hits in it."""
    reach = int(config.filler * size) + _SLACK
    seen: Counter[tuple[int, int]] = Counter()
    weight, best, found, low = 0.0, 0.0, (0, 0), 0
    for high, hit in enumerate(hits):
        weight += 0.0 if seen[hit.part, hit.gram] else hit.weight
        seen[hit.part, hit.gram] += 1
        while hit.end - hits[low].start > reach:
            first = hits[low]
            seen[first.part, first.gram] -= 1
            weight -= 0.0 if seen[first.part, first.gram] else first.weight
            low += 1
        if weight > best + 1e-9:
            best, found = weight, (low, high + 1)
    return best / size, hits[found[0] : found[1]]


def _spans(hits: Sequence[Hit], tokens: Tokens, gap: int) -> tuple[tuple[int, int], ...]:
    """The characters of some hits, with what little lies between two of them and the marks that follow."""
    merged: list[list[int]] = []
    for start, end in sorted({(hit.start, hit.end) for hit in hits}):
        if merged and start - merged[-1][1] < gap:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return tuple((int(tokens.starts[start]), _end_of(tokens, end)) for start, end in merged)


def _end_of(tokens: Tokens, end: int) -> int:
    """Where a span ends in the text: with the marks after its last token, but not over a line break."""
    last = int(tokens.ends[end - 1])
    following = int(tokens.starts[end]) if end < len(tokens) else len(tokens.raw)
    breaks = np.flatnonzero(tokens.raw[last:following] == 0x0A)
    return last + int(breaks[0]) if len(breaks) else following


def without(text: str, leaks: Sequence[Leak]) -> str:
    """A text without the spans of some leaks."""
    kept, at = [], 0
    for start, end in sorted(span for leak in leaks for span in leak.spans):
        kept.append(text[at : max(at, start)])
        at = max(at, end)
    return "".join([*kept, text[at:]]).strip()
