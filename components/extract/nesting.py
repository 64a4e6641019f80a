"""A guard before the parser: pages whose nesting makes any HTML parser take minutes.

The HTML standard makes tree building quadratic in the depth of open elements, and worse in the number of open
formatting elements, which are opened again in every new paragraph. Measured with lexbor: 200,000 nested `div`
(1 MB) take 131 s, 4,000 unclosed `b` with different attributes (60 kB) 9 s and a tree of 8 million nodes. Below
the limits here a page takes at most about 0.1 s. Counting open tags by pattern is crude, but the limits are ten
times what written pages have.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt

MAX_OPEN_ELEMENTS = 5000
MAX_OPEN_FORMATTING = 500
_FORMATTING = re.compile(
    r"<(/?)(?:[abisu]|big|code|em|font|nobr|small|str(?:ike|ong)|tt)(?=[ \t\n\r\f/>])", re.IGNORECASE
)
# All that a later sibling does not close by itself.
_ELEMENTS = re.compile(
    r"<(/?)(?!(?:p|li|d[dt]|t[drh]|tbody|thead|tfoot|option|br|img|hr|input|meta|link|col|area|base|wbr|source|param)\b)[a-z]",
    re.IGNORECASE,
)
Octets = npt.NDArray[np.uint8]
_TAG = ord("<")
_SMALL, _LETTERS = np.uint8(0x20), np.uint8(26)
_ONE_LETTER = np.frombuffer(b"abisuABISU", np.uint8)
# What formatting elements begin with: other names that share it are counted as well, which errs on the safe side.
_BEGINNINGS = [name + end for name in "abisu" for end in " \t\n\r\f/>"]
_BEGINNINGS += ["bi", "co", "em", "fo", "no", "sm", "st", "tt"]


def open_tags(html: str, raw: bytes | None = None) -> int:
    """Most elements open at once, as a share of what the parser can take: above 1.0 it is not to be tried.

    Nearly all pages have too few tags for it, or close what they open. The bytes behind each "<" tell that in a
    twentieth of the time that the patterns take.

    Args:
        html: The page.
        raw: The page in UTF-8, where it is at hand.

    Returns:
        The share, times 1,000, as a whole number, so that it reads well in the ledger; 0 for pages that cannot be deep.
    """
    octets = np.frombuffer(html.encode("utf-8", "surrogatepass") if raw is None else raw, np.uint8)
    places = np.flatnonzero(octets[:-2] == _TAG)
    if len(places) <= MAX_OPEN_FORMATTING:
        return 0
    formatting = elements = 0
    if _most_open_formatting(octets, places) > MAX_OPEN_FORMATTING:
        formatting = _peak(_FORMATTING, html) * 1000 // MAX_OPEN_FORMATTING
    if len(places) > MAX_OPEN_ELEMENTS and _num_letters(octets[places + 1]) > MAX_OPEN_ELEMENTS:
        elements = _peak(_ELEMENTS, html) * 1000 // MAX_OPEN_ELEMENTS
    return max(formatting, elements)


def _num_letters(octets: Octets) -> int:
    return int(np.count_nonzero((octets | _SMALL) - np.uint8(ord("a")) < _LETTERS))


def _most_open_formatting(octets: Octets, places: npt.NDArray[np.intp]) -> int:
    """A number that no count of open formatting elements on the page passes, told by up to three bytes behind "<".

    What may open one counts, and of what closes one only the plainest, such as "</a>".
    """
    second = octets[places + 2]
    opens = _opens_formatting()[octets[places + 1].astype(np.uint16) << 8 | second]
    if (num_opened := int(np.count_nonzero(opens))) <= MAX_OPEN_FORMATTING:
        return num_opened
    ends = octets.take(places + 3, mode="clip") == ord(">")
    closes = (octets[places + 1] == ord("/")) & np.isin(second, _ONE_LETTER) & ends
    balance = np.cumsum(opens.astype(np.int64) - closes)
    lowest = np.minimum.accumulate(np.minimum(balance, 0))
    return int(np.max(balance - lowest))


@cache
def _opens_formatting() -> npt.NDArray[np.bool_]:
    """For each pair of bytes behind a "<", whether it may open a formatting element."""
    table = np.zeros(1 << 16, np.bool_)
    for text in _BEGINNINGS:
        for first in (text[0], text[0].upper()):
            for second in (text[1], text[1].upper()):
                table[ord(first) << 8 | ord(second)] = True
    return table


def _peak(pattern: re.Pattern[str], html: str) -> int:
    depth = peak = 0
    for slash in pattern.findall(html):
        depth = max(depth - 1, 0) if slash else depth + 1
        peak = max(peak, depth)
    return peak
