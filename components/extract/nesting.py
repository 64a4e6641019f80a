"""A guard before the parser: pages whose nesting makes any HTML parser take minutes.

The HTML standard makes tree building quadratic in the depth of open elements, and worse in the number of open
formatting elements, which are opened again in every new paragraph. Measured with lexbor: 200,000 nested `div`
(1 MB) take 131 s, 4,000 unclosed `b` with different attributes (60 kB) 9 s and a tree of 8 million nodes. Below
the limits here a page takes at most about 0.1 s. Counting open tags by pattern is crude, but the limits are ten
times what written pages have.
"""

from __future__ import annotations

import re

MAX_OPEN_ELEMENTS = 5000
MAX_OPEN_FORMATTING = 500
_FORMATTING = re.compile(r"<(/?)(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE)
# All that a later sibling does not close by itself.
_ELEMENTS = re.compile(
    r"<(/?)(?!(?:p|li|d[dt]|t[drh]|tbody|thead|tfoot|option|br|img|hr|input|meta|link|col|area|base|wbr|source|param)\b)[a-z]",
    re.IGNORECASE,
)


def open_tags(html: str) -> int:
    """Most elements open at once, as a share of what the parser can take: above 1.0 it is not to be tried.

    Returns:
        The share, times 1,000, as a whole number, so that it reads well in the ledger; 0 for short pages.
    """
    if html.count("<") <= MAX_OPEN_FORMATTING:
        return 0
    formatting = _peak(_FORMATTING, html) * 1000 // MAX_OPEN_FORMATTING
    if html.count("<") <= MAX_OPEN_ELEMENTS:
        return formatting
    return max(formatting, _peak(_ELEMENTS, html) * 1000 // MAX_OPEN_ELEMENTS)


def _peak(pattern: re.Pattern[str], html: str) -> int:
    depth = peak = 0
    for slash in pattern.findall(html):
        depth = max(depth - 1, 0) if slash else depth + 1
        peak = max(peak, depth)
    return peak
