"""Hashes of stretches of a folded text: all lines, or all windows of one length, in a few passes of NumPy.

A stretch's hash is that of the polynomial sum(code[i] * M^(i - start)) modulo 2^64. Over prefix sums it is one
difference and one product by a power of M's inverse (M is odd, so it has one), whatever the length of the stretch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.sketch.folding import Codes

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]

_M = 0x9E3779B97F4A7C15
_M_INVERSE = pow(_M, -1, 1 << 64)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


def mix(values: Keys) -> Keys:
    """Spreads every bit of a number over all of it."""
    spread = values >> _HALF
    spread ^= values
    spread *= _SPREAD
    upper = spread >> _HALF
    spread ^= upper
    spread *= _SPREAD
    np.right_shift(spread, _HALF, out=upper)
    spread ^= upper
    return spread


class Stretches:
    """Hashes of any stretches of one folded text."""

    def __init__(self, codes: Codes | Keys) -> None:
        powers, self._inverse = _powers(len(codes))
        self._sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        terms = codes.astype(np.uint64)
        terms += np.uint64(1)
        terms *= powers
        np.cumsum(terms, out=self._sums[1:])

    def hashes(self, starts: Places, ends: Places) -> Keys:
        """64-bit hash of each stretch [start, end)."""
        lengths = (ends - starts).astype(np.uint64)
        return mix((self._sums[ends] - self._sums[starts]) * self._inverse[starts] + lengths)

    def windows(self, length: int) -> Keys:
        """The hashes of all stretches of one length, by where they start; none if the text is shorter."""
        count = len(self._sums) - length
        if count < 1:
            return np.zeros(0, dtype=np.uint64)
        sums = self._sums[length:] - self._sums[:count]
        sums *= self._inverse[:count]
        sums += np.uint64(length)
        return mix(sums)


def window_of(passage_chars: int) -> int:
    """Length of the windows by which a shared passage of so many characters is recognised: three quarters of it."""
    return max(1, passage_chars * 3 // 4)


def fingerprints(stretches: Stretches, starts: Places, ends: Places, passage_chars: int) -> list[Keys]:
    """Winnowing (Schleimer, Wilkerson and Aiken 2003): the least hash of every run of neighbouring windows.

    Two texts that share `passage_chars` characters share all windows of one such run, so they share a fingerprint.

    Args:
        stretches: Hashes of some texts that lie one after the other.
        starts: Where each begins.
        ends: Where each ends.
        passage_chars: Length of a passage.

    Returns:
        For each text its distinct fingerprints, ascending; none if it is shorter than a passage.
    """
    window = window_of(passage_chars)
    run = passage_chars - window + 1
    windows = stretches.windows(window)
    if len(windows) < run:
        return [np.zeros(0, dtype=np.uint64) for _ in starts]
    least = _sliding_minimum(windows, run)
    return [
        _distinct(least[start : max(start, end - passage_chars + 1)]) for start, end in zip(starts, ends, strict=True)
    ]


def _distinct(least: Keys) -> Keys:
    is_new = np.ones(len(least), dtype=np.bool_)  # one window is the least of many neighbouring runs
    np.not_equal(least[1:], least[:-1], out=is_new[1:])
    return sorted_set(least[is_new])


def sorted_set(values: Keys) -> Keys:
    """The distinct ones of a few values, ascending."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def _sliding_minimum(values: Keys, width: int) -> Keys:
    """The least of each `width` neighbours, in three passes whatever the width (van Herk 1992)."""
    size = -(-len(values) // width) * width
    padded = np.full(size, np.iinfo(np.uint64).max, dtype=np.uint64)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, width)
    before = np.minimum.accumulate(blocks, axis=1).ravel()
    after = np.minimum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    count = len(values) - width + 1
    least: Keys = np.minimum(after[:count], before[width - 1 : width - 1 + count])
    return least


_tables: list[tuple[Keys, Keys]] = []


def _powers(size: int) -> tuple[Keys, Keys]:
    """The powers of M and of its inverse, 0 up to `size`: made once for the longest text yet."""
    if not _tables or len(_tables[0][1]) <= size:
        length = max(1 << 16, 1 << size.bit_length())
        _tables[:] = [(_powers_of(_M, length), _powers_of(_M_INVERSE, length))]
    powers, inverse = _tables[0]
    return powers[:size], inverse


def _powers_of(base: int, length: int) -> Keys:
    factors = np.full(length, base, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)
