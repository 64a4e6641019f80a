"""Links out of any bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.links import MAX_LINKS, decode, has_giant_tag, page_links, too_deep

URL = "http://e.com/a/"
UTF8 = "text/html; charset=utf-8"


def test_links_come_in_order_and_once():
    page = b'<a href=b>1</a><area href="/c"><a href="b#x">2</a><a name=n><iframe src=d></iframe><link rel=next href=e>'
    assert page_links(page, UTF8, URL) == [f"{URL}b", "http://e.com/c", f"{URL}d", f"{URL}e"]


def test_a_base_element_is_obeyed_and_a_bad_one_is_not():
    assert page_links(b'<base href="/z/"><a href=b>', UTF8, URL) == ["http://e.com/z/b"]
    assert page_links(b'<base href="javascript:1"><a href=b>', UTF8, URL) == [f"{URL}b"]


def test_style_sheets_and_scripts_are_no_links():
    assert page_links(b"<link rel=stylesheet href=s><script src=t></script><a href='mailto:x@y'>", UTF8, URL) == []


@pytest.mark.parametrize(
    ("payload", "content_type", "expected"),
    [
        ("中文".encode("gbk"), "text/html; charset=GB2312", "中文"),
        (b'<meta charset="gb2312">' + "镕".encode("gbk"), "text/html", '<meta charset="gb2312">镕'),
        ("é".encode("latin-1"), 'text/html; charset="iso-8859-1"', "é"),
        (b"\xef\xbb\xbf\xe4\xb8\xad", "text/html; charset=latin-1", "中"),
        ("中".encode("utf-16"), "", "中"),
        ("中".encode(), "text/html; charset=klingon", "中"),
        ("中".encode(), "text/html; charset=hex", "中"),
        (b"\xe4\xb8\xad\xff", "", "中\ufffd"),
    ],
)
def test_the_encoding_is_found_as_browsers_find_it(payload: bytes, content_type: str, expected: str):
    assert decode(payload, content_type) == expected


@given(st.binary(max_size=300), st.text(alphabet="charset=;utf-8gbk16 ", max_size=30))
def test_any_bytes_are_read_without_failing(payload: bytes, content_type: str):
    page_links(payload, content_type, URL)
    page_links(b"<a href='" + payload + b"'><base href=" + payload + b">", content_type, URL)


@pytest.mark.parametrize("around", ["<div>", "<b><div></b>", "<div></x>", "<p><table><tr><td>"])
def test_a_page_nested_beyond_all_reason_still_gives_its_links(around: str):
    page = around * 50_000 + "<a class=x href='b?x=1&amp;y=2'>"
    assert too_deep(page)
    assert page_links(page.encode(), UTF8, URL) == [f"{URL}b?x=1&y=2"]


def test_a_long_page_is_not_taken_for_a_deep_one():
    assert not too_deep("<p>one<br><img src=x></p><ul><li>two</li></ul>" * 5_000)


def test_of_a_page_of_too_many_links_the_first_are_read():
    page = b"".join(b"<a href=%d>" % number for number in range(MAX_LINKS + 5))
    assert page_links(page, UTF8, URL) == [f"{URL}{number}" for number in range(MAX_LINKS)]


def test_a_base_of_a_million_characters_is_not_multiplied_by_the_links_of_the_page():
    links = b"".join(b"<a href=%d>" % number for number in range(5_000))
    assert page_links(b"<base href=/" + b"x" * 1_000_000 + b"/>" + links, UTF8, URL)[:1] == [f"{URL}0"]


GIANTS = {
    "names": " ".join(f"x{number}" for number in range(40_000)),
    "values with ends of tags": " ".join(f'x{number}=">"' for number in range(20_000)),
    "slashes": "/".join(f"x{number}" for number in range(40_000)),
    "beginnings of tags": " ".join(f"<x{number}" for number in range(40_000)),
}


@pytest.mark.parametrize("inside", GIANTS.values(), ids=GIANTS)
def test_a_tag_of_countless_attributes_does_not_reach_the_parser(inside: str):
    page = f"<p {inside}>text</p><a href=b>x</a>"
    assert has_giant_tag(page)
    assert page_links(page.encode(), UTF8, URL) == [f"{URL}b"]


def test_a_picture_in_an_attribute_and_a_long_page_are_no_giant_tags():
    picture = "iVBORw0KGgo/AA+" * 20_000
    assert not has_giant_tag(f'<p><img alt="x" src="data:image/png;base64,{picture}"><a href=b>x</a>')
    assert not has_giant_tag("<p class=x id='y'>one<br><img src=x alt=\"a > b\"></p>" * 5_000)
