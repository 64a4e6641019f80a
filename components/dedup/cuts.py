"""Takes out of a text what it has in common with many others: repeated lines, and passages of a better document."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.sketch.folding import Folded, fold_with_places, line_spans
from components.sketch.hashing import Keys, Stretches, window_of

_MANY_BREAKS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Cut:
    """A text after cutting.

    Attributes:
        text: What is left.
        lines: Lines taken out.
        line_chars: Their characters.
        passages: Passages taken out.
        passage_chars: Their characters, those of lines not counted again.
    """

    text: str
    lines: int
    line_chars: int
    passages: int
    passage_chars: int


def cut(text: str, lang: str, lines: Keys, passages: Keys, passage_chars: int) -> Cut:
    """Cuts a text.

    Args:
        text: The text.
        lang: Its language.
        lines: Hashes of the lines to take out.
        passages: Fingerprints of windows to take out.
        passage_chars: Length of a passage in this language, as in the sketches.
    """
    folded = fold_with_places(text, lang)
    stretches = Stretches(folded.codes)
    goes = np.zeros(len(folded.raw), dtype=np.bool_)
    num_lines = _mark_lines(goes, folded, stretches, lines)
    line_chars = int(goes.sum())
    num_passages = _mark_passages(goes, folded, stretches, passages, passage_chars) if len(passages) else 0
    passage_total = int(goes.sum()) - line_chars
    if not goes.any():
        return Cut(text, 0, 0, 0, 0)
    left = folded.raw[~goes].tobytes().decode("utf-32-le", "surrogatepass")
    return Cut(_MANY_BREAKS.sub("\n\n", left).strip(), num_lines, line_chars, num_passages, passage_total)


def _mark_lines(goes: NDArray[np.bool_], folded: Folded, stretches: Stretches, lines: Keys) -> int:
    starts, ends, first, last = line_spans(folded)
    found = np.flatnonzero(np.isin(stretches.hashes(first, last), lines))
    for start, end in zip(starts[found].tolist(), ends[found].tolist(), strict=True):
        goes[start : end + 1] = True  # with the line break
    return len(found)


def _mark_passages(
    goes: NDArray[np.bool_], folded: Folded, stretches: Stretches, passages: Keys, passage_chars: int
) -> int:
    window = window_of(passage_chars)
    found = np.flatnonzero(np.isin(stretches.windows(window), passages))
    if not len(found):
        return 0
    breaks = np.flatnonzero(np.diff(found) > window)
    starts = found[np.concatenate(([0], breaks + 1))]
    ends = found[np.concatenate((breaks, [len(found) - 1]))] + window
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        after = folded.places[end] if end < len(folded.places) else len(goes)
        goes[folded.places[start] : _end_of(folded, end, int(after))] = True
    return len(starts)


def _end_of(folded: Folded, end: int, after: int) -> int:
    """Where a passage ends in the text: with the marks that follow its last letter, but not over a line break."""
    last = int(folded.places[end - 1]) + 1
    breaks = np.flatnonzero(folded.raw[last:after] == 0x0A)
    return last + int(breaks[0]) if len(breaks) else after
