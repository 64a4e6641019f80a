"""The guard against pages that would take a parser minutes."""

from __future__ import annotations

import pytest

from components.extract.nesting import MAX_OPEN_ELEMENTS, MAX_OPEN_FORMATTING, open_tags
from components.extract.reading import read_html


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 200_000,
        "".join(f"<b class=x{i}><p>" for i in range(4000)),
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
