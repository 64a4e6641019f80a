"""The guard against pages that would take a parser minutes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.nesting import MAX_OPEN_ELEMENTS, MAX_OPEN_FORMATTING, open_tags
from components.extract.reading import read_html


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 200_000,
        "".join(f"<b class=x{i}><p>" for i in range(4000)),
        "".join(f"<b class=x{i}></p>" for i in range(4000)),
        "<span>" * 20_000 + "x" + "</span>" * 20_000,
        "</b>" * 3000 + "".join(f"<i id={i}>" for i in range(3000)),
    ],
)
def test_hostile_nesting_is_told_from_the_text_alone(html: str) -> None:
    assert open_tags(html) > 1000


@pytest.mark.parametrize(
    "html",
    [
        "<p>unclosed paragraph" * 20_000,
        "<ul>" + "<li>item" * 20_000 + "</ul>",
        "<table>" + "<tr><td>a<td>b" * 10_000 + "</table>",
        "<div><b>x</b></div>" * 10_000,
        "<li><a href=x>link</a >" * 10_000,
        "<br><img src=x><hr>" * 10_000,
        "1 < 2 and 3 > 2 " * 5000,
        "",
    ],
)
def test_long_flat_pages_are_no_danger(html: str) -> None:
    assert open_tags(html) < 100


def test_pages_just_inside_the_limits_are_still_extracted() -> None:
    deep = "<div>" * (MAX_OPEN_ELEMENTS - 1) + "A sentence at the very bottom of the page."
    formatting = "".join(f"<b class=x{i}><p>" for i in range(MAX_OPEN_FORMATTING - 1)) + "A sentence in bold."
    assert open_tags(deep) <= 1000
    assert open_tags(formatting) <= 1000
    assert read_html(deep).text == "A sentence at the very bottom of the page."
    assert read_html(formatting).text == "A sentence in bold."


TAGS = st.sampled_from(
    ["<a href=x>", "</a>", "</A>", "</a >", "</a\n>", "<b>", "</b>", "<big>", "</big>", "<abbr>", "x"]
)


@given(st.lists(TAGS, min_size=1, max_size=6).map("".join), st.integers(200, 700), st.sampled_from(["", "</b>", "</b"]))
def test_what_is_open_at_once_is_counted_exactly_where_it_is_too_much(piece: str, times: int, end: str) -> None:
    html = piece * times + end
    depth = deepest = 0
    for slash in re.findall(r"<(/?)(?:a|b|big)[ \n>]", html, re.IGNORECASE):
        depth = max(depth - 1, 0) if slash else depth + 1
        deepest = max(deepest, depth)
    told = open_tags(html)
    assert (told > 1000) == (deepest > MAX_OPEN_FORMATTING)
    assert told in (0, deepest * 1000 // MAX_OPEN_FORMATTING)
