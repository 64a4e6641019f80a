"""Masked words: some tokens of a row are hidden, and the model says which they were (1810.04805).

Of the tokens chosen, 80 % become the mask, 10 % another token and 10 % stay: at fine-tuning no mask is seen, so the
model must not believe that what is there unmasked is always right.

Shapes: T tokens of a row, W words of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.tokenizer.special import MASK

IGNORED = -100
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of a tokenizer.

    Attributes:
        num_special: Ids below it are special: never hidden, and never put in for another.
        size: All ids.
    """

    num_special: int
    size: int


def mask_row(
    ids_T: NDArray[np.int64],
    vocabulary: Vocabulary,
    fraction: float,
    generator: np.random.Generator,
    words_T: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hides tokens of a row.

    Args:
        ids_T: The row.
        vocabulary: Which ids are special.
        fraction: Share of the tokens that are not special to choose; at least one.
        generator: Draws everything.
        words_T: The word of each token: a word is chosen whole or not at all. A word that would go past the share is
            passed over, unless it is the first.

    Returns:
        What the model sees [T], and the targets [T]: the id that was there where it was chosen, else `IGNORED`. A row
        of special tokens alone has none.
    """
    chosen_T = _chosen(ids_T >= vocabulary.num_special, fraction, generator, words_T)
    targets_T = np.where(chosen_T, ids_T, IGNORED)
    draw_T = generator.random(len(ids_T))
    others_T = generator.integers(vocabulary.num_special, vocabulary.size, len(ids_T))
    seen_T = np.where(chosen_T & (draw_T < MASKED_SHARE), MASK, ids_T)
    swapped_T = chosen_T & (draw_T >= MASKED_SHARE) & (draw_T < MASKED_SHARE + RANDOM_SHARE)
    return np.where(swapped_T, others_T, seen_T), targets_T


def _chosen(
    maskable_T: NDArray[np.bool_],
    fraction: float,
    generator: np.random.Generator,
    words_T: NDArray[np.int64] | None,
) -> NDArray[np.bool_]:
    """Which tokens are to be said again [T]."""
    chosen_T = np.zeros(len(maskable_T), dtype=np.bool_)
    places = np.flatnonzero(maskable_T)
    if not len(places):
        return chosen_T
    budget = max(1, round(fraction * len(places)))
    if words_T is None:
        chosen_T[generator.choice(places, budget, replace=False)] = True
        return chosen_T
    sizes_W = np.bincount(words_T[places])
    order = generator.permutation(np.flatnonzero(sizes_W))
    taken = np.zeros(len(sizes_W), dtype=np.bool_)
    left = budget
    for word in order.tolist():
        if sizes_W[word] <= left or left == budget:
            taken[word] = True
            left -= int(sizes_W[word])
        if left <= 0:
            break
    chosen_T[places] = taken[words_T[places]]
    return chosen_T
