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

from components.extract.blocks import HEADINGS, Block, Page, read_blocks
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
_CELLS = frozenset(("td", "th"))


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
    columns = [_columns(block.text) for block in page.blocks]
    kept = _choose(page, columns, _trusted(page, columns), title)
    found = sum(columns[i] for i in kept)
    if found < _LITTLE:
        whole = read_blocks(tree, landmarks=True)
        columns = [_columns(block.text) for block in whole.blocks]
        lenient = _choose(whole, columns, [True] * len(columns), title)
        if sum(columns[i] for i in lenient) > max(4 * found, _LITTLE // 2):
            page, kept = whole, lenient
    return Choice(page, kept)


def _trusted(page: Page, columns: list[int]) -> list[bool]:
    """Which blocks stand in no container that names itself boilerplate.

    Names that hold much of the page's prose together are pardoned: pages call their text "reply" or "print" too. What
    calls itself comments is pardoned only on a page that has little else to say, as a forum's.
    """
    free = [0 if _is_links(b) else _prose(b, c) for b, c in zip(page.blocks, columns, strict=True)]
    mass = _mass(page, free)
    held: dict[str, int] = {}
    for container, amount in zip(page.containers, mass, strict=True):
        held[container.suspect] = held.get(container.suspect, 0) + amount
    leading = _leading_away(page) if any(container.teaser for container in page.containers) else frozenset[int]()
    suspect = [False] * len(page.containers)
    remarks = [False] * len(page.containers)
    for index, (container, parent) in enumerate(zip(page.containers, page.parents, strict=True)):
        own = bool(container.suspect) and held[container.suspect] < _SHARE_OF_PARDON * mass[0]
        suspect[index] = own or index in leading or (parent >= 0 and suspect[parent])
        remarks[index] = container.comments or (parent >= 0 and remarks[parent])
    if any(remarks):
        outside = zip(page.blocks, free, strict=True)
        article = sum(n for block, n in outside if not (suspect[block.container] or remarks[block.container]))
        if article >= _ARTICLE_COLUMNS:
            suspect = [one or other for one, other in zip(suspect, remarks, strict=True)]
    return [not suspect[block.container] for block in page.blocks]


def _leading_away(page: Page) -> frozenset[int]:
    """Teasers that lead to another text: those of which much is links."""
    linked = _mass(page, [block.link_chars for block in page.blocks])
    total = _mass(page, [len(block.text) for block in page.blocks])
    return frozenset(
        index
        for index, container in enumerate(page.containers)
        if container.teaser and linked[index] > _LINKS_OF_TEASER * total[index]
    )


def _mass(page: Page, amounts: list[int]) -> list[int]:
    """Adds up an amount per block to one per container, with all it holds."""
    mass = [0] * len(page.containers)
    for block, amount in zip(page.blocks, amounts, strict=True):
        mass[block.container] += amount
    parents = page.parents
    for index in range(len(mass) - 1, 0, -1):  # children come after their parents
        if mass[index]:
            mass[parents[index]] += mass[index]
    return mass


def _choose(page: Page, columns: list[int], allowed: list[bool], title: str) -> list[int]:
    """Indices of the blocks that are text of the page."""
    good = [
        allowed[i] and not _is_links(block) and not opens_boilerplate(block.text, columns[i])
        for i, block in enumerate(page.blocks)
    ]
    prose = [_prose(block, columns[i]) if good[i] else 0 for i, block in enumerate(page.blocks)]
    inside = _inside(page, _main_container(page, prose))
    linked = _link_lists(page)
    kept = [i for i, b in enumerate(page.blocks) if good[i] and inside[b.container] and b.container not in linked]
    return _with_headline(page, columns, good, _drop_empty_headings(page, _drop_related(page, kept)), title)


def _with_headline(page: Page, columns: list[int], good: list[bool], kept: list[int], title: str) -> list[int]:
    """Puts the headline, if it is the page's only one, and the lead first, where they stand above the text's container.

    The lead is what is long enough to be a sentence between the two: all else there is about the page.
    """
    if not kept:
        return kept
    heads = [i for i, block in enumerate(page.blocks) if block.tag == "h1" and good[i]]
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
        block = page.blocks[i]
        text = "".join(block.text.split()).lower()
        same = _MIN_TITLE <= len(text) <= len(folded) and text in folded
        kind = block.tag if block.tag in ("h1", "h2") and not _is_links(block) else "title" if same else ""
        if kind and ranked[kind] == end:
            ranked[kind] = i
    return next((i for i in ranked.values() if i < end), end)


def _prose(block: Block, columns: int) -> int:
    """How much a block counts as prose: its columns outside links; headings and tiny crumbs count nothing."""
    if block.tag in HEADINGS:
        return 0
    free = columns * (len(block.text) - block.link_chars) // max(1, len(block.text))
    return free if free >= 10 else 0


def _main_container(page: Page, prose: list[int]) -> int:
    """The deepest container that holds most of the prose; -1 for the whole page."""
    mass = _mass(page, prose)
    if not mass or not mass[0]:
        return -1
    best = _landmark(page, mass)
    for index, container in enumerate(page.containers):
        if container.parent == best and mass[index] >= _SHARE_OF_PROSE * mass[best] and not _is_line(container.tag):
            best = index
    return best


def _landmark(page: Page, mass: list[int]) -> int:
    """The container to start from: a `main`, or the only sizeable `article`, else the outermost."""
    for tag in ("main", "article"):
        found = [i for i, c in enumerate(page.containers) if c.tag == tag and mass[i] >= _SHARE_OF_LANDMARK * mass[0]]
        if len(found) == 1:
            return found[0]
    return 0


def _is_line(tag: str) -> bool:
    return (
        tag in HEADINGS or tag in _CELLS or tag in ("p", "li", "dd", "dt", "pre", "blockquote", "tr", "ul", "ol", "dl")
    )


def _inside(page: Page, main: int) -> list[bool]:
    """For each container whether it is the main one or in it."""
    if main <= 0:
        return [True] * len(page.parents)
    inside: list[bool] = []
    for index, parent in enumerate(page.parents):
        inside.append(index == main or (parent >= main and inside[parent]))
    return inside


def _is_links(block: Block) -> bool:
    return block.link_chars > _MAX_LINK_SHARE * len(block.text)


def _link_lists(page: Page) -> set[int]:
    """Containers of lists and tables that are links as a whole, even if a line of them is not."""
    groups = _groups(page)
    chars: dict[int, int] = {}
    links: dict[int, int] = {}
    for block in page.blocks:
        group = groups[block.container]
        if group >= 0:
            chars[group] = chars.get(group, 0) + len(block.text)
            links[group] = links.get(group, 0) + block.link_chars
    bad = {group for group, total in chars.items() if links[group] > _MAX_LINK_SHARE * total}
    return {index for index, group in enumerate(groups) if group in bad} if bad else set()


_LISTS = frozenset(("ul", "ol", "dl", "dir", "menu"))
_IN_LISTS = frozenset(("li", "dd", "dt", "p", "div", "h2", "h3", "h4", "h5", "h6"))


def _groups(page: Page) -> list[int]:
    """For each container the list that it is an item of, -1 if of none."""
    groups: list[int] = []
    for index, (container, parent) in enumerate(zip(page.containers, page.parents, strict=True)):
        tag = container.tag
        groups.append(index if tag in _LISTS else groups[parent] if tag in _IN_LISTS and parent >= 0 else -1)
    return groups


def _drop_related(page: Page, kept: list[int]) -> list[int]:
    """Leaves out what follows a heading such as "Related articles" up to the next heading."""
    related = [i for i, b in enumerate(page.blocks) if b.tag in HEADINGS and opens_related(b.text)]
    if not related:
        return kept
    headings = [i for i, block in enumerate(page.blocks) if block.tag in HEADINGS]
    out: set[int] = set()
    for start in related:
        out.update(range(start, next((i for i in headings if i > start), len(page.blocks))))
    return [i for i in kept if i not in out]


def _drop_empty_headings(page: Page, kept: list[int]) -> list[int]:
    """Leaves out headings with nothing under them, which headed something that was left out."""
    result: list[int] = []
    pending_level = 0  # lowest level of the content seen after this position; 0 is text
    has_text = False
    for i in reversed(kept):
        tag = page.blocks[i].tag
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
