"""What robots.txt permits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.robots import read_robots

RULES = b"""
User-agent: *
Disallow: /private/
Allow: /private/open$
Crawl-delay: 2.5

User-agent: headwater
Disallow: /ours/
Request-rate: 1/10

Sitemap: http://e.com/sitemap.xml
"""


def test_the_longest_match_wins_and_groups_are_by_name():
    rules = read_robots(200, RULES)
    assert not rules.allows("http://e.com/private/x", "Other")
    assert rules.allows("http://e.com/private/open", "Other")
    assert not rules.allows("http://e.com/private/open/x", "Other")
    assert rules.allows("http://e.com/private/x", "Headwater")
    assert not rules.allows("http://e.com/ours/x", "Headwater")


def test_gap_and_sitemaps_are_read():
    rules = read_robots(200, RULES)
    assert rules.gap_s("Other") == 2.5
    assert rules.gap_s("Headwater") == 10.0
    assert rules.sitemaps() == ["http://e.com/sitemap.xml"]


@pytest.mark.parametrize("status", [404, 403, 410, 301])
def test_a_missing_file_permits_everything(status: int):
    assert read_robots(status, RULES).allows("http://e.com/private/x", "Other")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_host_is_closed(status: int):
    rules = read_robots(status, b"")
    assert not rules.allows("http://e.com/", "Other")
    assert str(status) in rules.closed


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_failing(body: bytes):
    rules = read_robots(200, body)
    rules.allows("http://e.com/a", "Headwater")
    assert rules.gap_s("Headwater") >= 0


@pytest.mark.parametrize("delay", ["-5", "nan", "inf", "x", "1e400"])
def test_an_absurd_delay_is_no_delay(delay: str):
    assert read_robots(200, f"User-agent: *\nCrawl-delay: {delay}\n".encode()).gap_s("Headwater") == 0.0
