"""Which URLs may be asked for, and which come first."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl.config import CrawlConfig
from components.crawl.frontier import FEED
from components.crawl.scope import Scope
from components.errors import ConfigError


def _scope(**changes: object) -> Scope:
    return Scope(CrawlConfig(**{"seeds": ("http://e.com/",), **changes}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("http://e.com/a", ""),
        ("https://e.com/a", ""),
        ("http://e.com:81/a", "scope"),
        ("http://www.e.com/a", "scope"),
        ("http://d.org/", ""),
        ("http://a.b.d.org:8080/", ""),
        ("http://notd.org/", "scope"),
        ("http://f.net:90/", ""),
        ("http://e.com/a.zip", "file type"),
    ],
)
def test_hosts_and_domains_are_the_scope(url: str, refusal: str):
    assert _scope(hosts=("f.net:90",), host_suffixes=("d.org",)).refusal(url) == refusal


@pytest.mark.parametrize(
    ("url", "refusal"),
    [
        ("http://e.com/docs/a", ""),
        ("http://e.com/docs", "path"),
        ("http://e.com/guide", ""),
        ("http://e.com/guide/a", ""),
        ("http://e.com/guide?a=1", ""),
        ("http://e.com/guides", "path"),
        ("http://e.com/docs/old/a", "path"),
        ("http://e.com/", "path"),
    ],
)
def test_paths_are_taken_in_and_left_out_with_all_below_them(url: str, refusal: str):
    rules = {"include": ("/docs/", "http://e.com/guide"), "exclude": ("https://e.com/docs/old",)}
    assert _scope(**rules).refusal(url) == refusal


def test_a_list_need_not_lie_among_the_pages_but_may_be_left_out():
    scope = _scope(include=("/docs/",), exclude=("/private/",))
    assert scope.refusal("http://e.com/feed.xml", FEED) == ""
    assert scope.refusal("http://e.com/private/feed.xml", FEED) == "path"


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://e.com/", True),
        ("https://sub.e.com:99/x", True),
        ("http://e.com.org/", False),
        ("http://d.org/blog/", True),
        ("https://d.org/blog/a?b", True),
        ("http://d.org/blogs", False),
        ("http://f.net/a/b", True),
        ("http://f.net/", False),
    ],
)
def test_the_opt_out_list_comes_before_everything(tmp_path: Path, url: str, refused: bool):
    path = tmp_path / "list.txt"
    path.write_text("# owners who wrote to us\nD.org/blog  # by letter\n\nhttps://f.net/a/\n", encoding="utf-8")
    rules = {"opt_out": ("*.E.com",), "opt_out_file": str(path), "host_suffixes": ("com", "org", "net")}
    assert _scope(**rules).refusal(url) == ("opt-out" if refused else "")


def test_another_opt_out_list_than_expected_is_refused(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("e.com\n")
    right = hashlib.sha256(b"e.com\n").hexdigest()
    assert _scope(opt_out_file=str(path), opt_out_digest=right).refusal("http://e.com/") == "opt-out"
    with pytest.raises(ConfigError, match="not the one"):
        _scope(opt_out_file=str(path), opt_out_digest="0" * 64)


@pytest.mark.parametrize(
    "change",
    [
        {"opt_out_file": "/no/such/file"},
        {"opt_out": ("http://",)},
        {"hosts": ("a b",)},
        {"include": ("http://user@e.com/",)},
    ],
)
def test_rules_that_are_none_are_refused_by_name(change: dict[str, object]):
    with pytest.raises(ConfigError, match=f"crawl.{next(iter(change))}|opt-out list"):
        _scope(**change)


def test_the_longest_rule_ranks_a_page():
    scope = _scope(priorities={"/a/": "10", "/a/b/": "90", "http://e.com/a/b/c/": "-5"})
    urls = ("http://e.com/", "http://e.com/a/x", "http://e.com/a/b/x", "http://e.com/a/b/c/x")
    assert [scope.priority(url) for url in urls] == [50, 10, 90, -5]


@pytest.mark.parametrize("change", [{"priorities": {"/": "high"}}, {"priorities": {"a": "1"}}, {"include": ("docs",)}])
def test_impossible_rules_are_refused(change: dict[str, object]):
    with pytest.raises(ConfigError, match=f"crawl.{next(iter(change))}"):
        CrawlConfig(**change)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4), st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3))
def test_a_prefix_covers_exactly_what_lies_below_it(path: list[str], prefix: list[str]):
    scope = _scope(exclude=("/" + "/".join(prefix),))
    covered = path[: len(prefix)] == prefix
    assert (scope.refusal("http://e.com/" + "/".join(path)) == "path") == covered
