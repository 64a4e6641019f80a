"""The page's own text: which of its blocks a reader came for, as readable lines.

Three questions, each answered from counts over the blocks (no model, no word list but the phrases of `boilerplate`):
where is the bulk of the prose (the deepest container that still holds most of it), which blocks inside are link
lists or boilerplate phrases, and is what is left so little that the page must be of another kind; then the test is
made again more leniently. Short lines are no sign of boilerplate here: a conversation is made of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser

from components.extract.blocks import HEADINGS, NO_NAMES, Page, read_blocks
from components.extract.boilerplate import opens_boilerplate, opens_related

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]")
# A container is the main one while a single child of it holds this share of the prose.
_SHARE_OF_PROSE = 0.8
# Landmarks are believed if they hold at least this share of the page's prose.
_SHARE_OF_LANDMARK = 0.3
# A container named as boilerplate that holds this share of the prose is not boilerplate.
_SHARE_OF_PARDON = 0.5
# A page with this many columns of prose outside its comments has text of its own.
_ARTICLE_COLUMNS = 600
_MAX_LINK_SHARE = 0.5
# A teaser with a larger share of links leads elsewhere; with a smaller one it is the lead of the page's own text.
_LINKS_OF_TEASER = 0.2
# Below this many columns the strict pass is not believed if the lenient one finds several times as much, and at least
# half of this.
_LITTLE = 200
# A line between headline and text at least this wide is the lead.
_LEAD_COLUMNS = 70
# A headline stands no more than this many blocks above the text; other words of the page's title are shorter.
_HEAD_BLOCKS = 24
_MIN_TITLE = 8
# Prose of fewer columns counts nothing.
_CRUMB = 10
# Elements that are a line, or lines, of a text and never the whole of it.
_LINES = HEADINGS | frozenset(("td", "th", "p", "li", "dd", "dt", "pre", "blockquote", "tr", "ul", "ol", "dl"))


@dataclass(frozen=True)
class Choice:
    """A page taken apart, and which of its blocks are its text, in reading order."""

    page: Page
    kept: list[int]


def choose_main_text(tree: LexborHTMLParser, title: str = "") -> Choice:
    """Finds the blocks of a page that are its text; none if it has none.

    Args:
        tree: The parsed page.
        title: Text of its `title` element.
    """
    page = read_blocks(tree, landmarks=False)
    columns = [_columns(text) for text in page.texts]
    prose = _prose(page, columns)
    kept = _choose(page, columns, prose, _trusted(page, prose), title)
    found = sum(columns[i] for i in kept)
    if found < _LITTLE:
        whole = read_blocks(tree, landmarks=True)
        columns = [_columns(text) for text in whole.texts]
        lenient = _choose(whole, columns, _prose(whole, columns), [True] * len(columns), title)
        if sum(columns[i] for i in lenient) > max(4 * found, _LITTLE // 2):
            page, kept = whole, lenient
    return Choice(page, kept)


def _prose(page: Page, columns: list[int]) -> list[int]:
    """How much each block counts as prose: its columns outside links, none if it is a link, a heading or a crumb."""
    prose: list[int] = []
    for text, link_chars, tag, wide in zip(page.texts, page.link_chars, page.tags, columns, strict=True):
        num_chars = len(text)
        free = (
            0 if _is_links(num_chars, link_chars) or tag in HEADINGS else wide * (num_chars - link_chars) // num_chars
        )
        prose.append(free if free >= _CRUMB else 0)
    return prose


def _trusted(page: Page, prose: list[int]) -> list[bool]:
    """Which blocks stand in no container that names itself boilerplate.

    Names that hold much of the page's prose together are pardoned: pages call their text "reply" or "print" too. What
    calls itself comments is pardoned only on a page that has little else to say, as a forum's.
    """
    named = {index: names for index, names in enumerate(page.names) if names is not NO_NAMES}
    if not named:
        return [True] * len(prose)
    mass = _mass(page, prose)
    held: dict[str, int] = {}
    for index, names in named.items():
        held[names.suspect] = held.get(names.suspect, 0) + mass[index]
    leading = _leading_away(page, [index for index, names in named.items() if names.teaser])
    bad = leading | {
        i for i, names in named.items() if names.suspect and held[names.suspect] < _SHARE_OF_PARDON * mass[0]
    }
    suspect = _within(page, bad)
    comments = {index for index, names in named.items() if names.comments}
    if comments:
        remarks = _within(page, comments)
        outside = zip(page.places, prose, strict=True)
        if sum(amount for place, amount in outside if not (suspect[place] or remarks[place])) >= _ARTICLE_COLUMNS:
            suspect = _within(page, bad | comments)
    return [not suspect[place] for place in page.places]


def _within(page: Page, marked: set[int]) -> list[bool]:
    """For each container whether it is a marked one or in one."""
    within: list[bool] = []
    for index, parent in enumerate(page.parents):
        within.append(index in marked or (parent >= 0 and within[parent]))
    return within


def _leading_away(page: Page, teasers: list[int]) -> set[int]:
    """Teasers that lead to another text: those of which much is links."""
    if not teasers:
        return set()
    linked = _mass(page, page.link_chars)
    total = _mass(page, [len(text) for text in page.texts])
    return {index for index in teasers if linked[index] > _LINKS_OF_TEASER * total[index]}


def _mass(page: Page, amounts: list[int]) -> list[int]:
    """Adds up an amount per block to one per container, with all it holds."""
    mass = [0] * len(page.parents)
    for place, amount in zip(page.places, amounts, strict=True):
        mass[place] += amount
    parents = page.parents
    for index in range(len(mass) - 1, 0, -1):  # children come after their parents
        if mass[index]:
            mass[parents[index]] += mass[index]
    return mass


def _choose(page: Page, columns: list[int], prose: list[int], allowed: list[bool], title: str) -> list[int]:
    """Indices of the blocks that are text of the page."""
    rows = zip(allowed, page.texts, page.link_chars, columns, strict=True)
    good = [
        may and not _is_links(len(text), link_chars) and not opens_boilerplate(text, wide)
        for may, text, link_chars, wide in rows
    ]
    own = [amount if fine else 0 for amount, fine in zip(prose, good, strict=True)]
    inside = _within(page, {_main_container(page, own)})
    linked = _link_lists(page)
    kept = [i for i, place in enumerate(page.places) if good[i] and inside[place] and place not in linked]
    return _with_headline(page, columns, good, _drop_empty_headings(page, _drop_related(page, kept)), title)


def _with_headline(page: Page, columns: list[int], good: list[bool], kept: list[int], title: str) -> list[int]:
    """Puts the headline, if it is the page's only one, and the lead first, where they stand above the text's container.

    The lead is what is long enough to be a sentence between the two: all else there is about the page.
    """
    if not kept:
        return kept
    heads = [i for i, tag in enumerate(page.tags) if tag == "h1" and good[i]]
    above = heads if len(heads) == 1 and heads[0] < kept[0] else []
    start = _headline(page, title, kept[0])
    lead = [i for i in range(start + 1, kept[0]) if good[i] and columns[i] >= _LEAD_COLUMNS]
    return [*above, *(i for i in lead if i not in above), *kept]


def _headline(page: Page, title: str, end: int) -> int:
    """The last heading before `end` that may be the page's: an `h1`, or what the page's title says too, or an `h2`."""
    window = range(end - 1, max(-1, end - _HEAD_BLOCKS), -1)
    folded = "".join(title.split()).lower()
    ranked = {"h1": end, "title": end, "h2": end}
    for i in window:
        text, tag = page.texts[i], page.tags[i]
        own = "".join(text.split()).lower()
        same = _MIN_TITLE <= len(own) <= len(folded) and own in folded
        head = tag in ("h1", "h2") and not _is_links(len(text), page.link_chars[i])
        kind = tag if head else "title" if same else ""
        if kind and ranked[kind] == end:
            ranked[kind] = i
    return next((i for i in ranked.values() if i < end), end)


def _main_container(page: Page, prose: list[int]) -> int:
    """The deepest container that holds most of the prose; the whole page if there is none."""
    mass = _mass(page, prose)
    if not mass or not mass[0]:
        return 0
    best = _landmark(page, mass)
    for index in range(best + 1, len(mass)):
        if (
            page.parents[index] == best
            and mass[index] >= _SHARE_OF_PROSE * mass[best]
            and page.elements[index] not in _LINES
        ):
            best = index
    return best


def _landmark(page: Page, mass: list[int]) -> int:
    """The container to start from: a `main`, or the only sizeable `article`, else the outermost."""
    enough = _SHARE_OF_LANDMARK * mass[0]
    for landmark in ("main", "article"):
        found = [i for i, element in enumerate(page.elements) if element == landmark and mass[i] >= enough]
        if len(found) == 1:
            return found[0]
    return 0


def _is_links(num_chars: int, link_chars: int) -> bool:
    """Whether a text is one of links."""
    return link_chars > _MAX_LINK_SHARE * num_chars


def _link_lists(page: Page) -> set[int]:
    """Containers of lists and tables that are links as a whole, even if a line of them is not."""
    groups = _groups(page)
    chars: dict[int, int] = {}
    links: dict[int, int] = {}
    for place, text, link_chars in zip(page.places, page.texts, page.link_chars, strict=True):
        group = groups[place]
        if group >= 0:
            chars[group] = chars.get(group, 0) + len(text)
            links[group] = links.get(group, 0) + link_chars
    bad = {group for group, total in chars.items() if _is_links(total, links[group])}
    return {index for index, group in enumerate(groups) if group in bad} if bad else set()


_LISTS = frozenset(("ul", "ol", "dl", "dir", "menu"))
_IN_LISTS = frozenset(("li", "dd", "dt", "p", "div", "h2", "h3", "h4", "h5", "h6"))


def _groups(page: Page) -> list[int]:
    """For each container the list that it is an item of, -1 if of none."""
    groups: list[int] = []
    for index, (tag, parent) in enumerate(zip(page.elements, page.parents, strict=True)):
        groups.append(index if tag in _LISTS else groups[parent] if tag in _IN_LISTS and parent >= 0 else -1)
    return groups


def _drop_related(page: Page, kept: list[int]) -> list[int]:
    """Leaves out what follows a heading such as "Related articles" up to the next heading."""
    related = [i for i, tag in enumerate(page.tags) if tag in HEADINGS and opens_related(page.texts[i])]
    if not related:
        return kept
    headings = [i for i, tag in enumerate(page.tags) if tag in HEADINGS]
    out: set[int] = set()
    for start in related:
        out.update(range(start, next((i for i in headings if i > start), len(page.tags))))
    return [i for i in kept if i not in out]


def _drop_empty_headings(page: Page, kept: list[int]) -> list[int]:
    """Leaves out headings with nothing under them, which headed something that was left out."""
    result: list[int] = []
    pending_level = 0  # lowest level of the content seen after this position; 0 is text
    has_text = False
    for i in reversed(kept):
        tag = page.tags[i]
        if tag not in HEADINGS:
            has_text, pending_level = True, 0
        else:
            level = int(tag[1])
            if not has_text or (pending_level and pending_level <= level):
                continue
            pending_level = level
        result.append(i)
    return result[::-1]


def _columns(text: str) -> int:
    """Width of a text in columns: hanzi, kana and hangul take two."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))
