"""The website built out of them."""

import json
from html import unescape
from pathlib import Path

import pytest

from components.context import local_context
from components.errors import ConfigError
from components.sample.config import SampleConfig
from components.sample.step import site
from components.sample.texts import conversations, held_out, reviews

SMALL = SampleConfig(
    conversations=24,
    questions=60,
    questions_per_page=20,
    articles=6,
    digests=1,
    reviews=30,
    reviews_per_page=15,
    list_size=10,
    duplicates=2,
    near_duplicates=2,
    junk=1,
    private=2,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    context = local_context("site", tmp_path_factory.mktemp("site"), SMALL.seed)
    site(context, SMALL)
    return context.output


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_settings_give_the_same_bytes(built: Path, tmp_path: Path):
    again = local_context("site", tmp_path, SMALL.seed)
    site(again, SMALL)
    assert _files(again.output) == _files(built)


def test_another_seed_shows_other_texts(built: Path, tmp_path: Path):
    other = local_context("site", tmp_path, 18)
    site(other, SMALL)
    assert _files(other.output)["www/talk/0001.html"] != _files(built)["www/talk/0001.html"]


def test_nothing_held_out_appears_anywhere(tmp_path: Path):
    everything = SampleConfig(conversations=100_000, questions=100_000, reviews=100_000, articles=1, digests=0)
    context = local_context("site", tmp_path, 17)
    site(context, everything)
    shown = set()
    for path in (context.output / "www").rglob("*.html"):
        shown.update(line for line in unescape(path.read_text(errors="replace")).split("\n") if line.startswith("<p>"))
    longest = [max(one.turns, key=len) for one in conversations() if held_out(one.id) and one.source == "chitchat"]
    secret = [text for text in longest if len(text) > 80] + [one.text for one in reviews() if held_out(one.id)]
    assert len(secret) > 1500
    assert [text for text in secret if f"<p>{text}</p>" in shown] == []
    kept = [one.text for one in reviews() if not held_out(one.id)]
    assert all(f"<p>{text}</p>" in shown for text in kept[:500])


def test_a_duplicate_is_another_page_byte_for_byte(built: Path):
    pages = _files(built / "www")
    for name, content in pages.items():
        if name.startswith("mirror/"):
            assert sum(other == content for other in pages.values()) == 2


def test_a_near_duplicate_shares_most_paragraphs_with_a_page_and_is_not_it(built: Path):
    pages = {
        name: set(content.split(b"\n")) for name, content in _files(built / "www").items() if name.endswith("html")
    }
    copies = [name for name in pages if name.startswith("print/")]
    assert len(copies) == 2
    for name in copies:
        paragraphs = {line for line in pages[name] if line.startswith(b"<p>")}
        others = [lines for other, lines in pages.items() if not other.startswith(("print/", "mirror/"))]
        original = max(others, key=lambda lines: len(paragraphs & lines))
        assert 0.8 * len(paragraphs) < len(paragraphs & original) < len(paragraphs)
        assert len([line for line in original - paragraphs if line.startswith(b"<p>")]) == 1


def test_pages_in_both_languages_carry_their_boilerplate(built: Path):
    english = (built / "www/talk/0001.html").read_text()
    chinese = (built / "www/zh/news/0001.html").read_text()
    for word in ("cookie", "Share this page", "newsletter", "Copyright"):
        assert word in english
    for word in ("Cookie", "分享到", "相关文章", "版权所有"):
        assert word in chinese


def test_one_page_is_gbk_under_the_name_gb2312_and_one_is_no_valid_utf_8(built: Path):
    gbk = (built / "www/odd/gbk.html").read_bytes()
    assert b'charset="gb2312"' in gbk
    assert "相关文章" not in gbk.decode("gbk")  # It stands alone, without neighbours.
    assert "版权所有" in gbk.decode("gbk")
    with pytest.raises(UnicodeDecodeError):
        (built / "www/odd/broken-bytes.html").read_bytes().decode()


def test_robots_forbids_what_every_page_links_to(built: Path):
    robots = (built / "www/robots.txt").read_text()
    assert "Disallow: /private/" in robots
    assert "Crawl-delay: 0" in robots
    assert 'href="/private/"' in (built / "www/index.html").read_text()
    assert (built / "www/private/0001.html").is_file()


def test_the_summary_names_versions_and_sizes(built: Path):
    summary = json.loads((built / "summary.json").read_text())
    assert summary["host"] == "sample.headwater.test"
    assert summary["packages"]["snownlp"]
    assert summary["kinds"]["talk"] == 4
    assert summary["text_bytes"]["en"] > 20_000
    assert summary["text_bytes"]["zh"] > 10_000


@pytest.mark.parametrize("change", [{"conversations": -1}, {"list_size": 0}, {"slow_s": -1.0}, {"duplicates": -2}])
def test_impossible_sizes_are_refused_by_name(change: dict[str, float]):
    with pytest.raises(ConfigError, match=f"site.{next(iter(change))}"):
        SampleConfig(**change)
