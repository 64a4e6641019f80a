"""The gold set of Chinese pages: what a reader came for comes out, what surrounds it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from chinese_pages import LAYOUTS, GoldPage, found_in, gold_pages

from components.extract.language import detect_language_and_script
from components.extract.reading import read_html


def f1_of(extract: Callable[[str], str], pages: tuple[GoldPage, ...]) -> float:
    """F1 as the public set counts it: a wanted segment found is right, an unwanted one found is wrong."""
    right = wrong = missed = 0
    for page in pages:
        text = extract(page.html)
        found = found_in(text, page.wanted)
        right, missed = right + found, missed + len(page.wanted) - found
        wrong += found_in(text, page.unwanted)
    return 2 * right / (2 * right + wrong + missed)


def test_every_segment_of_the_set_stands_on_its_page() -> None:
    assert len(gold_pages()) >= 30
    for page in gold_pages():
        whole = read_all(page.html)
        assert found_in(whole, page.wanted) == len(page.wanted), page.name
        assert found_in(whole, page.unwanted) == len(page.unwanted), page.name


def read_all(html: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(html)
    assert tree.body is not None
    return tree.body.text()


def test_the_whole_set_is_read_with_an_f1_of_nine_tenths() -> None:
    assert f1_of(lambda html: read_html(html).text, gold_pages()) >= 0.90
    assert f1_of(read_all, gold_pages()) < 0.75  # the set is not so easy that all text would do


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_each_layout_is_read_well(layout: Callable[..., object]) -> None:
    pages = tuple(page for page in gold_pages() if page.name.startswith(layout.__name__))
    assert f1_of(lambda html: read_html(html).text, pages) >= 0.85


def test_simplified_and_traditional_pages_are_told_apart() -> None:
    for page in gold_pages():
        assert detect_language_and_script(read_html(page.html).text) == (
            "zh",
            "Hans" if page.name.endswith("hans") else "Hant",
        )


def test_dates_are_found_on_the_pages_that_show_one() -> None:
    dated = [page for page in gold_pages() if "forum" not in page.name and "novel" not in page.name]
    found = [page.name for page in dated if read_html(page.html).date]
    assert len(found) >= 0.7 * len(dated)
