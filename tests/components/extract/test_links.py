"""Where a page leads, and the side table of links."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.urls import join, normalise
from components.documents import FAN_IN
from components.extract.links import condense_links, merge_links, read_links, resolve, write_links

BASE = "https://www.example.org/a/b.html"


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("/x/y.html", "https://www.example.org/x/y.html"),
        ("c.html#part", "https://www.example.org/a/c.html"),
        ("../d", "https://www.example.org/d"),
        ("?page=2", "https://www.example.org/a/b.html?page=2"),
        ("//other.example.com/x", "https://other.example.com/x"),
        ("HTTP://Other.Example.COM:80", "http://other.example.com/"),
        ("https://other.example.com", "https://other.example.com/"),
        ("https://other.example.com/?utm_source=x&id=3", "https://other.example.com/?id=3"),
        ("https://例え.jp/路", "https://xn--r8jz45g.jp/%E8%B7%AF"),
        ("/%e8%b7%af", "https://www.example.org/%E8%B7%AF"),
    ],
)
def test_a_reference_becomes_the_url_it_means(reference: str, target: str) -> None:
    assert resolve(BASE, [reference]) == [target]


@pytest.mark.parametrize(
    "reference", ["", "#top", "javascript:void(0)", "mailto:a@b.org", "tel:1", "ftp://a.org/", "http://[bad"]
)
def test_what_leads_to_no_page_is_no_link(reference: str) -> None:
    assert resolve(BASE, [reference]) == []


def test_each_target_is_told_once_in_the_order_of_the_page() -> None:
    assert resolve(BASE, ["/b", "/a", "/b#x", "/a"]) == ["https://www.example.org/b", "https://www.example.org/a"]


PIECES = st.sampled_from(
    [
        "a",
        "B",
        "index.html",
        "..",
        ".",
        "",
        "%41",
        "%e4",
        "%E4%BD",
        "%20",
        "x y",
        "é",
        "路",
        "a;b",
        "~",
        "(1)",
        "p:q",
        "@",
        "x,y",
    ]
)
PATHS = st.lists(PIECES, max_size=4).map("/".join)
PARAMETERS = st.sampled_from(
    ["id=3", "utm_source=x", "q=%20", "a=1+2", "page", "", "=", "gclid=7", "s=a/b", "UTM_X=1", "x=?", "é=1"]
)
QUERIES = st.one_of(st.just(""), st.lists(PARAMETERS, max_size=3).map(lambda pieces: "?" + "&".join(pieces)))
HOSTS = st.sampled_from(
    [
        "www.b-c.org",
        "B.org",
        "b.org:8080",
        "b.org:443",
        "127.0.0.1",
        "xn--r8jz45g.jp",
        "b_c.org",
        "localhost",
        "a..b",
        "x@b.org",
    ]
)
REFERENCES = st.one_of(
    st.builds("{}{}{}".format, PATHS, QUERIES, st.sampled_from(["", "#f", "#a?b"])),
    st.builds("{}://{}/{}{}".format, st.sampled_from(["http", "https", "HTTP", "ftp"]), HOSTS, PATHS, QUERIES),
    st.builds("/{}{}".format, PATHS, QUERIES),
    st.builds("//{}/{}".format, HOSTS, PATHS),
    st.text(max_size=20),
)  # fmt: skip
BASES = st.sampled_from([BASE, "http://b.org/", "http://b.org/a/b/?q=1", "http://b.org/a;p/c", "http://b.org/a/./"])


@pytest.mark.parametrize("scale", [pytest.param(300, marks=()), pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_short_way_gives_what_normalising_gives(scale: int) -> None:
    from hypothesis import settings

    @settings(max_examples=scale, deadline=None)
    @given(base=BASES, reference=REFERENCES)
    def check(base: str, reference: str) -> None:
        base = normalise(base) or base
        expected = join(base, reference) if reference.strip() and not reference.strip().startswith("#") else None
        assert resolve(base, [reference]) == ([expected] if expected else [])

    check()


def test_links_are_written_by_document_and_found_by_shard(tmp_path: Path) -> None:
    ids = [bytes([n]) * 16 for n in range(0, 250, 5)]
    for number in range(3):
        pages = [(one, [f"http://b.org/{one[0]}/{n}" for n in range(3)]) for one in ids[number::3]]
        write_links(tmp_path / f"{number}.arrow", pages, grouped=True)
    paths = [tmp_path / f"{number}.arrow" for number in range(3)]
    for index in range(4):
        write_links(tmp_path / "out" / "links" / f"shard-{index}.arrow", merge_links(paths, index, 4))
    found = list(read_links(tmp_path / "out"))
    assert found == [(one, f"http://b.org/{one[0]}/{n}") for one in ids for n in range(3)]


def test_a_page_recorded_twice_has_its_links_once(tmp_path: Path) -> None:
    for number in range(2):
        write_links(tmp_path / f"{number}.arrow", [(b"x" * 16, ["http://b.org/"])], grouped=True)
    merged = list(merge_links([tmp_path / "0.arrow", tmp_path / "1.arrow"], 0, 1))
    assert merged == [(b"x" * 16, ["http://b.org/"])]


def test_many_files_are_merged_until_they_can_be_read_side_by_side(tmp_path: Path) -> None:
    paths = []
    for number in range(3 * FAN_IN):
        paths.append(tmp_path / f"{number:03d}.arrow")
        write_links(paths[-1], [(bytes([number]) * 16, [f"http://b.org/{number}"])], grouped=True)
    few = condense_links(paths, tmp_path / "merged")
    assert len(few) <= FAN_IN
    assert [page[0][0] for page in merge_links(few, 0, 1)] == list(range(3 * FAN_IN))


@pytest.mark.parametrize("piece", ["a", "a&", "a=", "/a", "%20", "%", "..", "/", "a%20", "&", "-", "x/"])
@pytest.mark.parametrize("opening", ["/?", "", "/", "http://b.org/", "http://", "?"])
def test_a_link_of_many_like_pieces_takes_no_longer_than_its_length(opening: str, piece: str) -> None:
    # A pattern that tries every way to cut such a link up would not come back.
    assert len(resolve(BASE, [opening + piece * 3000 + "é!"])) <= 1
