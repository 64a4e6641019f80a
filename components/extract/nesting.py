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
_TAG = ord("<")
# What formatting elements begin with: other names that share it are counted as well, which errs on the safe side.
_BEGINNINGS = [name + end for name in "abisu" for end in " \t\n\r\f/>"]
_BEGINNINGS += ["bi", "co", "em", "fo", "no", "sm", "st", "tt"]


def open_tags(html: str, raw: bytes | None = None) -> int:
    """Most elements open at once, as a share of what the parser can take: above 1.0 it is not to be tried.

    Nearly all pages have fewer formatting tags than may be open at once, which a count of the two bytes behind each
    "<" tells in a third of the time that the pattern takes.

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
    pairs = octets[places + 1].astype(np.uint16) << 8 | octets[places + 2]
    formatting = 0
    if np.count_nonzero(_opens_formatting()[pairs]) > MAX_OPEN_FORMATTING:
        formatting = _peak(_FORMATTING, html) * 1000 // MAX_OPEN_FORMATTING
    if len(places) <= MAX_OPEN_ELEMENTS:
        return formatting
    return max(formatting, _peak(_ELEMENTS, html) * 1000 // MAX_OPEN_ELEMENTS)


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
