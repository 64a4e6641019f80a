"""URLs in one spelling."""

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.crawl.urls import MAX_URL_CHARS, host_of, join, join_all, looks_like_page, normalise, robots_url

PIECES = st.text(alphabet="aZ09%/.?#&=;:@\\[]~ \t\n\"'<>|é中。\ud800", max_size=30)
URLS = st.one_of(
    st.text(max_size=40), st.builds("{}://{}{}".format, st.sampled_from(["http", "HTTPS"]), PIECES, PIECES)
)


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("HTTP://Example.COM/", "http://example.com/"),
        ("http://example.com", "http://example.com/"),
        ("http://example.com.:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://例子。测试/", "http://xn--fsqu00a.xn--0zwm56d/"),
        ("http://[2001:DB8::0:1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://e.com/a/./b/../c/..", "http://e.com/a/"),
        ("http://e.com/%2e%2e/../a", "http://e.com/a"),
        ("http://e.com/%7euser/%3a%c3%a9", "http://e.com/~user/%3A%C3%A9"),
        ('http://e.com/a b"é', "http://e.com/a%20b%22%C3%A9"),
        ("http://e.com/100%", "http://e.com/100%25"),
        ("http://e.com/a?b=1&a=2#c", "http://e.com/a?b=1&a=2"),
        ("http://e.com/a?utm_source=x&id=1&fbclid=y&&", "http://e.com/a?id=1"),
        ("http://e.com/a;jsessionid=12AB?x=1", "http://e.com/a?x=1"),
        ("http://e.com?x", "http://e.com/?x"),
        ("http://e.com/?", "http://e.com/"),
        (" http:\\\\e.com\\a?b\\c ", "http://e.com/a?b%5Cc"),
        ("http://e.com//a//b", "http://e.com//a//b"),
    ],
)
def test_one_spelling(given_url: str, expected: str):
    assert normalise(given_url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "e.com",
            "ftp://e.com/",
            "javascript:alert(1)",
            "mailto:a@e.com",
            "data:text/html,x",
            "http://",
            "http:///a",
        ),
        *("http://user@e.com/", "http://a:b@e.com/", "http://e.com:99999/", "http://e.com:0/", "http://e com/"),
        *("http://[::1", "http://[fe80::1%25eth0]/", "http://a..b/", f"http://{'a' * 64}.com/", "http://%65.com/"),
    ],
)
def test_what_is_no_page_address_is_refused(url: str):
    assert normalise(url) is None


@given(URLS)
@example("http://h/.;jsessionid=1/;jsessionid=;jsessionid=2/%2e%2E/a")
@example("http://h/%%34%31?%%34")
def test_normalising_twice_changes_nothing(url: str):
    once = normalise(url)
    assert once is None or normalise(once) == once


@given(URLS)
def test_a_normalised_url_is_ascii_and_goes_over_the_wire_as_it_stands(url: str):
    once = normalise(url)
    if once is not None:
        assert once.isascii()
        parsed = httpx.URL(once)
        assert parsed.host
        assert parsed.raw_path.decode().startswith("/")
        assert "#" not in once
        assert "\\" not in once


@given(URLS, st.one_of(st.text(max_size=40), PIECES))
def test_any_link_on_any_page_gives_a_url_or_none(base: str, reference: str):
    found = join(normalise(base) or "http://e.com/a/b?c", reference)
    assert found is None or normalise(found) == found


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("c", "http://e.com/a/c"),
        ("../c", "http://e.com/c"),
        ("?x=1", "http://e.com/a/b?x=1"),
        ("#top", "http://e.com/a/b"),
        ("", "http://e.com/a/b"),
        ("//f.com/c", "http://f.com/c"),
        ("\\\\f.com\\c", "http://f.com/c"),
        (" /c\n", "http://e.com/c"),
        ("HTTPS://F.com", "https://f.com/"),
        ("javascript:void(0)", None),
        ("http://[", None),
    ],
)
def test_links_are_read_as_browsers_read_them(reference: str, expected: str | None):
    assert join("http://e.com/a/b", reference) == expected


def test_host_and_robots_keep_the_port():
    assert host_of("http://e.com:8080/a/b") == "e.com:8080"
    assert robots_url("https://e.com:8080/a/b?c") == "https://e.com:8080/robots.txt"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("http://e.com/", True),
        ("http://e.com/a", True),
        ("http://e.com/a.html", True),
        ("http://e.com/v1.2", True),
        ("http://e.com/a.PDF", False),
        ("http://e.com/a.jpg?width=3", False),
        ("http://e.com/a.zip/", True),
        ("http://e.com/get?file=a.zip", True),
    ],
)
def test_endings_of_other_files_are_known(url: str, page: bool):
    assert looks_like_page(url) == page


def test_what_is_longer_than_any_url_is_none_and_what_is_merely_long_is_one():
    long, endless = f"http://e.com/{'x' * 5_000}", f"http://e.com/{'x' * MAX_URL_CHARS}"
    assert normalise(long) == long
    assert normalise(endless) is None
    assert join("http://e.com/a", "x" * 5_000) == long
    assert join("http://e.com/", endless) is None
    assert join(endless, "x") is None
    assert join_all("http://e.com/a", ["b", "x" * 5_000, endless]) == ["http://e.com/b", long]
