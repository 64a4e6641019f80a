"""Feeds: what is read from them, and what is not a feed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.feeds import MAX_FEED_URLS, named_feeds, read_feed, time_of

RSS = b"""<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><link>http://e.com/</link>
<item><title>A</title><link> http://e.com/a </link><pubDate>Tue, 02 Jan 2024 03:04:05 GMT</pubDate></item>
<item><guid>http://e.com/b</guid></item><item><guid isPermaLink="false">http://e.com/not</guid></item>
</channel></rss>"""
RDF = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
xmlns:dc="http://purl.org/dc/elements/1.1/"><item rdf:about="x"><link>http://e.com/a</link>
<dc:date>2024-01-02T03:04:05Z</dc:date></item></rdf:RDF>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><link href="/self" rel="self"/><entry><title>中文</title>
<link rel="enclosure" href="/a.mp3"/><link href="/a"/><updated>2024-01-02T03:04:05Z</updated></entry></feed>""".encode()
JSON = json.dumps({"items": [{"url": "/a", "date_modified": "2024-01-02T03:04:05Z"}, {"url": 7}, 8]}).encode()
AT = 1704164645.0


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        (RSS, [("http://e.com/a", AT), ("http://e.com/b", 0.0)]),
        (RDF, [("http://e.com/a", AT)]),
        (ATOM, [("/a", AT)]),
        (JSON, [("/a", AT)]),
        (b"\xef\xbb\xbf\n" + ATOM, [("/a", AT)]),
    ],
)
def test_every_kind_of_feed_gives_its_pages_and_their_times(body: bytes, pages: list[tuple[str, float]]):
    assert [(url, time_of(when)) for url, when in read_feed(body).pages] == pages


def test_what_stands_before_a_fault_is_used():
    feed = read_feed(RSS[:-30] + b"<item>&nonsense;")
    assert [url for url, _ in feed.pages] == ["http://e.com/a", "http://e.com/b"]
    assert feed.fault


@pytest.mark.parametrize("body", [b"", b"plain text", b"<html><p>no feed", b"{", b"[" * 9999, b'{"items": 3}'])
def test_what_is_no_feed_gives_nothing(body: bytes):
    assert read_feed(body).pages == []


def test_a_document_type_is_refused_so_that_no_entity_can_grow():
    bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><rss><item><link>&a;</link></item></rss>'
    assert read_feed(bomb).pages == []
    assert read_feed(bomb).fault == "has a document type"


def test_a_feed_is_read_so_far_and_no_further():
    body = b"<rss>" + b"<item><link>http://e.com/a</link></item>" * (MAX_FEED_URLS + 5) + b"</rss>"
    assert len(read_feed(body).pages) == MAX_FEED_URLS


def test_pages_name_their_feeds_in_the_head():
    page = b"""<head><link rel="stylesheet" href="/s.css"><link rel=alternate type="application/rss+xml" href=/rss>
    <LINK REL='Alternate home' TYPE='application/atom+xml; charset=utf-8' HREF='atom?a=1&amp;b=2' title="x">
    <link rel="alternate" hreflang="zh" href="/zh/"><link rel="alternate" type="application/atom+xml" href="">"""
    assert named_feeds(page, "http://e.com/d/p") == ["http://e.com/rss", "http://e.com/d/atom?a=1&b=2"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-02", 1704153600.0),
        ("2024-01-02T03:04:05+01:00", AT - 3600),
        ("Tue, 02 Jan 2024 03:04:05 +0000", AT),
        ("1960-01-01", 0.0),
        *((text, 0.0) for text in ("", "yesterday", "99999-99-99", "0001-01-01T00:00:00+23:59")),
    ],
)
def test_times_are_read_as_they_are_written(text: str, seconds: float):
    assert time_of(text) == seconds


@given(
    st.one_of(st.binary(max_size=300), st.builds(lambda a, b: RSS[:a] + b + RSS[a:], st.integers(0, 300), st.binary()))
)
def test_no_bytes_break_the_reader(body: bytes):
    feed = read_feed(body)
    assert all(url for url, _ in feed.pages)
    named_feeds(body, "http://e.com/")


@given(st.text(max_size=60))
def test_no_text_breaks_the_clock(text: str):
    assert time_of(text) >= 0
