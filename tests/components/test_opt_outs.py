"""The opt-out list covers hosts, pages with all below them, and documents; the crawler reads it the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.config import CrawlConfig
from components.crawl.scope import Scope
from components.crawl.urls import normalise
from components.errors import ConfigError
from components.opt_outs import OptOuts, read_entries

ID = "3f9a12c4d5e6f708192a3b4c5d6e7f80"


@pytest.mark.parametrize(
    ("entry", "url", "covered"),
    [
        ("example.org", "http://example.org/", True),
        ("example.org", "https://www.example.org:8080/a", True),
        ("*.example.org", "https://a.example.org/", True),
        ("example.org", "http://notexample.org/", False),
        ("example.org", "http://org/", False),
        ("example.org:8080", "http://example.org:8080/a", True),
        ("example.org:8080", "http://example.org/a", False),
        ("https://example.org/a", "http://example.org/a", True),
        ("http://example.org/a", "http://example.org/a/b", True),
        ("http://example.org/a", "http://example.org/a?b=c", True),
        ("http://example.org/a", "http://example.org/ab", False),
        ("example.org/a/", "https://example.org/a/b", True),
        ("http://EXAMPLE.org/%7ea", "http://example.org/~a", True),
        ("http://例子.cn/", "http://xn--fsqu00a.cn/a", True),
        ("example.org", "rows.jsonl:12", False),
    ],
)
def test_an_entry_covers_what_lies_below_it(entry: str, url: str, covered: bool) -> None:
    assert OptOuts([entry]).entry_for(url) == (entry if covered else "")


def test_an_id_covers_its_document_alone() -> None:
    listed = OptOuts([ID.upper()])
    assert listed.entry_for("rows.jsonl:12", bytes.fromhex(ID)) == ID.upper()
    assert listed.entry_for("rows.jsonl:12", bytes(16)) == ""


def test_an_empty_list_covers_nothing() -> None:
    assert not OptOuts([])
    assert OptOuts([]).entry_for("http://example.org/", bytes(16)) == ""


@pytest.mark.parametrize("entry", ["two words", "http://", "http://user:pw@a/", "?"])
def test_what_is_neither_host_nor_url_nor_id_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="no host, no URL and no id"):
        OptOuts([entry])


def test_a_file_has_an_entry_a_line_and_remarks(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("\ufeffa.example # asked by mail\n\n# nothing\n  b.example\n", encoding="utf-8")
    assert read_entries(tmp_path / "list") == ["a.example", "b.example"]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_entries(tmp_path / "list")


HOSTS = st.sampled_from(["a.test", "b.a.test", "ba.test", "a.test:81", "test"])
PATHS = st.lists(st.sampled_from(["x", "xy", ""]), max_size=3).map(lambda parts: "/" + "/".join(parts))


PLACES = st.builds(lambda host, path: f"http://{host}{path}", HOSTS, PATHS)


@given(st.lists(st.one_of(HOSTS, PLACES), max_size=3), HOSTS, PATHS)
def test_the_crawler_reads_the_list_the_same_way(entries: list[str], host: str, path: str) -> None:
    url = normalise(f"http://{host}{path}")
    assert url is not None
    refused = Scope(CrawlConfig(opt_out=tuple(entries), hosts=(host,))).refusal(url) == "opt-out"
    assert bool(OptOuts(entries).entry_for(url)) == refused
