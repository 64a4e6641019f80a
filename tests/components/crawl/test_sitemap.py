"""Sitemaps, whole and broken."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.sitemap import read_sitemap

URLSET = b"""<?xml version="1.0"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://image/1.1">
<!-- pages -->
<url><loc> http://e.com/a?x=1&amp;y=2 </loc><image:image><image:loc>http://e.com/a.jpg</image:loc></image:image></url>
<url><lastmod>2020-01-01</lastmod><loc><![CDATA[http://e.com/b]]></loc></url>
</urlset>"""


def test_pages_are_read_and_pictures_are_not():
    assert read_sitemap(URLSET).pages == ["http://e.com/a?x=1&y=2", "http://e.com/b"]


def test_gzip_is_seen_from_the_bytes():
    assert read_sitemap(gzip.compress(URLSET)) == read_sitemap(URLSET)


def test_an_index_names_further_sitemaps():
    found = read_sitemap(b"<sitemapindex><sitemap><loc>http://e.com/s.xml</loc></sitemap></sitemapindex>")
    assert (found.pages, found.sitemaps) == ([], ["http://e.com/s.xml"])


def test_plain_text_is_one_url_a_line():
    assert read_sitemap(b"\xef\xbb\xbfhttp://e.com/a\r\n\r\nhttp://e.com/b\n# no\n").pages == [
        "http://e.com/a",
        "http://e.com/b",
    ]


@pytest.mark.parametrize(
    "tail", [b"<url><loc>http://e.com/z", b"<url>&nbsp;<loc>http://e.com/z</loc></url>", b"</html>"]
)
def test_what_stands_before_a_fault_is_used(tail: bytes):
    found = read_sitemap(b"<urlset><url><loc>http://e.com/a</loc></url>" + tail)
    assert found.pages == ["http://e.com/a"]
    assert found.fault


def test_entities_are_not_expanded():
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><urlset><url><loc>http://e.com/&b;</loc></url></urlset>'
    assert read_sitemap(bomb).pages == []


@given(st.one_of(st.binary(max_size=200), st.text(alphabet="<>/urlsetoc&;ah:!-", max_size=100).map(str.encode)))
def test_any_bytes_are_read_without_failing(body: bytes):
    read_sitemap(body)
    read_sitemap(b"\x1f\x8b" + body)
    read_sitemap(b"<?xml version='1.0' encoding='" + body + b"'?><urlset/>")


@pytest.mark.parametrize("again", [b"<a/>", b"<a>"])
def test_a_sitemap_of_endless_or_bottomless_elements_is_read_up_to_a_limit(again: bytes):
    page = b"<url><loc>http://e.com/a</loc></url>"
    found = read_sitemap(b"<urlset>" + page + again * 620_000 + page)
    assert found.pages == ["http://e.com/a"]
    assert found.fault


def test_locations_longer_than_any_url_are_passed_over():
    long = b"http://e.com/" + b"x" * 20_000
    assert read_sitemap(b"<urlset><url><loc>" + long + b"</loc></url></urlset>").pages == []
    assert read_sitemap(long + b"\nhttp://e.com/a\n").pages == ["http://e.com/a"]
