"""Gaps: spans of a row are taken out, and the model writes them (T5's span corruption, 1910.10683, section 3.1.4).

    row      the cat sat on the mat and slept
    source   the cat <|mask|> the mat <|mask_1|> slept
    target   <|mask|> sat on <|mask_1|> and <|eos|>

How many tokens go and in how many spans is fixed by the length of the row, as in T5; where they lie is drawn: both what
goes and what stays is cut into as many parts, all ways to cut equally likely, and the parts alternate.

Shapes: T tokens of a row, S of the source, N of the target.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.objectives.counts import num_gaps
from components.tokenizer.special import EOS, MASK


def cut_gaps(
    ids_T: NDArray[np.int64], density: float, mean_length: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Takes spans out of a row.

    Args:
        ids_T: The row, at least 2 tokens.
        density: Share of the tokens to take out.
        mean_length: Mean length of a span in tokens.
        generator: Draws where they lie.

    Returns:
        Source [S] with a mask for each span, and target [N] with each span behind its mask and `EOS` at the end. S + N
        is T + twice the number of spans + 1.
    """
    noise, spans = num_gaps(len(ids_T), density, mean_length)
    kept = _parts(len(ids_T) - noise, spans, generator)
    gone = _parts(noise, spans, generator)
    ends = np.cumsum(np.stack([kept, gone], axis=1).ravel())
    pieces = np.split(ids_T, ends[:-1])
    masks = [np.array([MASK + number], dtype=ids_T.dtype) for number in range(spans)]
    source = [part for number in range(spans) for part in (pieces[2 * number], masks[number])]
    target = [part for number in range(spans) for part in (masks[number], pieces[2 * number + 1])]
    return np.concatenate(source), np.append(np.concatenate(target), EOS)


def _parts(total: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Sizes of `count` parts, each at least 1, that add up to `total`."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))
