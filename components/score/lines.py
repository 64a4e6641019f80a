"""The lines and paragraphs of a batch of texts: how long, how they begin and end, which of them repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.score.characters import NEWLINE, SPACE, Classes, Codes
from components.score.ngrams import Spans, group_by_value
from components.score.words import WIDE, Hashes, Places

_TERMINAL = np.array(
    sorted(map(ord, ".!?\"'\u2019\u201d\u2026\u3002\uff01\uff1f\uff0e\u300d\u300f\uff1b;:\uff1a)\uff09"))
)
_BULLETS = np.array(
    sorted(
        map(
            ord,
            "-*+\u2022\u2023\u25b6\u25b8\u25aa\u25ab\u25a0\u25a1\u25cf\u25cb\u25e6\u2013\u2014\u00b7\u2605\u2606\u203b>\u00bb\u3001#",
        )
    )
)
_ELLIPSIS = ord("\u2026")
_DOTS = np.array([ord("."), ord("\u3002")])


@dataclass(frozen=True)
class Lines:
    """The lines of a batch that are not empty, in order.

    Attributes:
        docs: Document of each line.
        starts: Index of its first character, spaces included.
        ends: Index of its newline.
        columns: Its width in columns: a hanzi takes two.
        lengths: Its characters without the spaces around it.
        terminal: Whether it ends as a sentence does.
        bullet: Whether it begins as an item of a list does.
        ellipsis: Whether it breaks off with dots.
        hashes: One hash of its characters without the spaces around it.
        paragraphs: Index of the first line of each paragraph.
        paragraph_hashes: One hash a paragraph.
        paragraph_lengths: The characters of its lines.
    """

    docs: Places
    starts: Places
    ends: Places
    columns: Places
    lengths: Places
    terminal: NDArray[np.bool_]
    bullet: NDArray[np.bool_]
    ellipsis: NDArray[np.bool_]
    hashes: Hashes
    paragraphs: Places
    paragraph_hashes: Hashes
    paragraph_lengths: Places


def find_lines(codes: Codes, classes: Classes, ends: Places) -> Lines:
    """The lines of a batch.

    Args:
        codes: Code points of the batch; each document ends with a newline.
        classes: Their classes.
        ends: Index behind the newline of each document.
    """
    newlines = np.flatnonzero(classes == NEWLINE)
    begins = np.concatenate(([0], newlines[:-1] + 1))
    visible = np.flatnonzero((classes != SPACE) & (classes != NEWLINE))
    upto = np.searchsorted(visible, newlines)
    counts = np.diff(upto, prepend=0)
    filled = np.flatnonzero(counts)
    first = visible.take((upto - counts).take(filled))
    last = visible.take(upto.take(filled) - 1)
    starts, stops = begins.take(filled), newlines.take(filled)
    docs = np.searchsorted(ends, stops, side="right")
    wide = np.concatenate(([0], np.cumsum(WIDE.take(classes))))
    lengths = last + 1 - first
    spans = Spans(codes.astype(np.uint64) + np.uint64(1))
    apart = np.ones(len(filled), dtype=np.bool_)  # an empty line or another document lies before
    apart[1:] = (filled[1:] != filled[:-1] + 1) | (docs[1:] != docs[:-1])
    paragraphs = np.flatnonzero(apart)
    closing = np.append(paragraphs[1:], len(filled)) - 1 if len(paragraphs) else paragraphs
    ending, opening = codes.take(last), codes.take(first)
    return Lines(
        docs=docs,
        starts=starts,
        ends=stops,
        columns=stops - starts + wide.take(stops) - wide.take(starts),
        lengths=lengths,
        terminal=np.isin(ending, _TERMINAL),
        bullet=np.isin(opening, _BULLETS),
        ellipsis=(ending == _ELLIPSIS)
        | (np.isin(ending, _DOTS) & (lengths > 1) & (codes.take(np.maximum(last - 1, 0)) == ending)),
        hashes=spans.hash(first, last + 1),
        paragraphs=paragraphs,
        paragraph_hashes=spans.hash(first.take(paragraphs), last.take(closing) + 1),
        paragraph_lengths=np.add.reduceat(lengths, paragraphs) if len(paragraphs) else paragraphs,
    )


def count_repeats(docs: Places, hashes: Hashes, lengths: Places, num_docs: int) -> tuple[Places, Places]:
    """How many spans repeat an earlier one of their document, and their characters, by document."""
    order, again = group_by_value(docs, hashes)
    repeated = order[again]
    docs = docs.take(repeated)
    count = np.bincount(docs, minlength=num_docs)
    chars = np.bincount(docs, weights=lengths.take(repeated), minlength=num_docs)
    return count, chars.astype(np.int64)
