"""The step `extract`: pages in, documents and ledger out, the same bytes whatever the order and the grouping."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.context import LocalContext, local_context
from components.crawl.warc_read import Page
from components.documents import Document, Dropped, iter_shard, read_documents, read_dropped
from components.errors import ConfigError, Preempted, StepError
from components.extract.config import ExtractConfig
from components.extract.links import read_links
from components.extract.pages import extract_page
from components.extract.step import extract
from components.publish import read_json

HTML = {"content-type": "text/html; charset=utf-8"}
CONFIG = ExtractConfig(shards=3)
MakeCrawl = Callable[[Sequence[Page]], Path]


def html_page(number: int, text: str = "") -> Page:
    words = text or f"This is the story of page number {number}, told in two plain sentences. The second one ends here."
    body = f"<html><head><title>Page {number}</title></head><body><h1>Page {number}</h1><p>{words}</p></body></html>"
    return Page(f"http://example.org/{number}", 200, HTML, body.encode())


def mixed_pages() -> list[Page]:
    pages = [html_page(number) for number in range(40)]
    pages += [
        html_page(number, f"第{number}页的故事只有两句话，这是第一句。第二句到这里就结束了。")
        for number in range(40, 60)
    ]
    pages.append(dataclasses.replace(html_page(60), status=404))
    pages.append(dataclasses.replace(html_page(61), headers={"content-type": "application/pdf"}))
    pages.append(dataclasses.replace(html_page(62), payload=b"<html><body><nav>Home</nav></body></html>"))
    pages.append(dataclasses.replace(html_page(63), payload=b"<p>" + b"\xff\xfe\x81 " * 200 + b"</p>"))
    pages.append(html_page(7))
    return pages


def run(folder: Path, crawl: Path, config: ExtractConfig = CONFIG) -> dict[str, float]:
    return extract(local_context("extract", folder), config, pages=crawl)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_page_becomes_a_document_or_a_line_of_the_ledger(tmp_path: Path, make_crawl: MakeCrawl) -> None:
    metrics = run(tmp_path / "run", make_crawl(mixed_pages()))
    output = tmp_path / "run" / "output"
    rules = {row.url: row.rule for row in read_dropped(output)}
    assert metrics["read"] == len(mixed_pages()) == metrics["kept"] + metrics["dropped"]
    assert {url.rsplit("/")[-1]: rule for url, rule in rules.items()} == {
        "60": "status",
        "61": "content_type",
        "62": "no_text",
        "63": "encoding",
        "7": "repeated_page",
    }
    assert metrics["kept"] == len(list(read_documents(output))) == 60
    assert metrics["share_zh"] == pytest.approx(1 / 3)
    assert read_json(output / "summary.json")["languages"] == {"en": 40, "zh": 20}


def test_the_bytes_do_not_depend_on_the_order_of_pages_or_the_size_of_waves(
    tmp_path: Path, make_crawl: MakeCrawl
) -> None:
    pages = mixed_pages()
    run(tmp_path / "a", make_crawl(pages))
    random.Random(5).shuffle(pages)
    run(tmp_path / "b", make_crawl(pages), ExtractConfig(shards=3, wave_pages=7))
    assert bytes_of(tmp_path / "a" / "output") == bytes_of(tmp_path / "b" / "output")


@dataclasses.dataclass(frozen=True)
class StopsAfterOneWave(LocalContext):
    """A context whose run is asked to stop once the first wave is reported."""

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        (self.channel.folder / "stop").touch()


def test_a_stopped_step_goes_on_behind_the_last_wave_and_ends_with_the_same_bytes(
    tmp_path: Path, make_crawl: MakeCrawl
) -> None:
    crawl = make_crawl(mixed_pages())
    run(tmp_path / "whole", crawl)
    context = local_context("extract", tmp_path / "stopped")
    stopping = StopsAfterOneWave(context.step, context.output, context.scratch, context.channel)
    with pytest.raises(Preempted):
        extract(stopping, ExtractConfig(shards=3, wave_pages=20), pages=crawl)
    (done,) = context.scratch.rglob("documents/shard-*.arrow")
    before = done.stat().st_mtime_ns
    (context.channel.folder / "stop").unlink()
    run(tmp_path / "stopped", crawl, ExtractConfig(shards=3, wave_pages=15))
    assert done.stat().st_mtime_ns == before
    assert bytes_of(tmp_path / "stopped" / "output") == bytes_of(tmp_path / "whole" / "output")


def test_waves_made_under_other_settings_are_not_taken_over(tmp_path: Path, make_crawl: MakeCrawl) -> None:
    crawl = make_crawl(mixed_pages())
    run(tmp_path / "run", crawl, ExtractConfig(shards=3, source="one"))
    shutil.rmtree(tmp_path / "run" / "output")
    run(tmp_path / "run", crawl, ExtractConfig(shards=3, source="two"))
    assert {document.source for document in read_documents(tmp_path / "run" / "output")} == {"two"}


def test_the_links_of_kept_pages_lie_in_the_shard_of_their_document(tmp_path: Path, make_crawl: MakeCrawl) -> None:
    pages = [
        dataclasses.replace(
            page, payload=page.payload.replace(b"</body>", b"<a href='/x#y'>x</a><a href=z>z</a></body>")
        )
        for page in mixed_pages()
    ]
    run(tmp_path / "run", make_crawl(pages))
    output = tmp_path / "run" / "output"
    documents = list(read_documents(output))
    expected = [(d.doc_id, target) for d in documents for target in ("http://example.org/x", "http://example.org/z")]
    assert list(read_links(output)) == expected
    for shard in (output / "documents").iterdir():
        with pa.memory_map(str(output / "links" / shard.name)) as source:
            ids = set(pa.ipc.open_file(source).read_all().column("doc_id").to_pylist())
        assert ids == {document.doc_id for document in iter_shard(shard)}


def test_no_links_are_written_where_none_are_wanted(tmp_path: Path, make_crawl: MakeCrawl) -> None:
    run(tmp_path / "run", make_crawl(mixed_pages()), ExtractConfig(shards=3, links=False))
    assert not (tmp_path / "run" / "output" / "links").exists()


def test_a_document_carries_what_its_page_says_of_itself() -> None:
    page = html_page(1)
    head = b"<title>Page 1</title><meta name=date content=2024-03-05><meta name=robots content=noai>"
    head += b"<link rel=license href='https://creativecommons.org/licenses/by/4.0/'>"
    result = extract_page(
        dataclasses.replace(page, payload=page.payload.replace(b"<title>Page 1</title>", head)), CONFIG
    )
    assert isinstance(result, Document)
    assert (result.script, result.date, result.licence, result.opt_out) == (
        "Latn",
        "2024-03-05",
        "CC-BY-4.0",
        "robots noai",
    )


def test_a_crawl_without_pages_is_refused_in_a_sentence(tmp_path: Path, make_crawl: MakeCrawl) -> None:
    with pytest.raises(StepError, match="extract found no page in the crawl") as caught:
        run(tmp_path / "run", make_crawl([]))
    assert "crawl.seeds" in caught.value.fix


def test_a_crawl_without_text_is_refused_with_the_rules_that_dropped_its_pages(
    tmp_path: Path, make_crawl: MakeCrawl
) -> None:
    pages = [dataclasses.replace(html_page(number), status=404) for number in range(3)]
    with pytest.raises(StepError, match=r"extract kept 0 of 3 pages \(rule status dropped 3\)"):
        run(tmp_path / "run", make_crawl(pages))


@pytest.mark.parametrize(
    ("change", "rule", "value"),
    [
        ({"fault": "gzip body cut off", "payload": b""}, "payload", "gzip body cut off"),
        ({"status": 301}, "status", "301"),
        ({"headers": {"content-type": "image/png"}}, "content_type", "image/png"),
        ({"headers": {}, "payload": b"\x89PNG\r\n\x1a\n"}, "content_type", "unknown"),
        ({"payload": b"<div>" * 50_000}, "nesting", "10000"),
        ({"payload": b"<p " + b"".join(b"a%d=1 " % n for n in range(100_000)) + b">x</p>"}, "attributes", "over 5000"),
        ({"payload": b"<p>" + b"x" * 9_000_000}, "page_bytes", "9000003"),
        ({"payload": b""}, "no_text", "0"),
    ],
)
def test_a_dropped_page_has_its_rule_value_and_threshold(change: dict[str, object], rule: str, value: str) -> None:
    result = extract_page(dataclasses.replace(html_page(1), **change), CONFIG)
    assert isinstance(result, Dropped)
    assert (result.rule, result.value) == (rule, value)
    assert result.threshold


def test_html_without_a_declared_type_is_known_by_its_first_bytes() -> None:
    assert isinstance(extract_page(dataclasses.replace(html_page(1), headers={}), CONFIG), Document)


def test_a_gbk_page_labelled_gb2312_becomes_a_chinese_document() -> None:
    body = '<meta charset="gb2312"><title>站</title><p>昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。</p>'
    result = extract_page(Page("http://example.org/", 200, {"content-type": "text/html"}, body.encode("gbk")), CONFIG)
    assert isinstance(result, Document)
    assert (result.lang, result.text) == ("zh", "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。")


@given(payload=st.binary(max_size=400), content_type=st.sampled_from(["text/html", "text/html; charset=gbk", ""]))
def test_any_bytes_become_a_document_or_a_reason(payload: bytes, content_type: str) -> None:
    page = Page("http://example.org/", 200, {"content-type": content_type}, payload)
    first, second = (extract_page(page, CONFIG) for _ in range(2))
    assert first == second
    assert isinstance(first, Document | Dropped)


@given(
    prefix=st.sampled_from([b"<html><body><p>", b"<!doctype html><meta charset=big5><div>", b"<pre>"]),
    garbage=st.lists(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"<p>", b"</p>", b"&amp;", "河水".encode()])), max_size=40
    ),
)
def test_html_mixed_with_garbage_becomes_a_document_or_a_reason(prefix: bytes, garbage: list[bytes]) -> None:
    result = extract_page(Page("http://example.org/", 200, HTML, prefix + b"".join(garbage)), CONFIG)
    if isinstance(result, Document):
        assert result.text.encode()


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"shards": 0}, "extract.shards"),
        ({"source": ""}, "extract.source"),
        ({"max_page_bytes": 0}, "extract.max_page_bytes"),
        ({"max_replaced_share": 1.5}, "extract.max_replaced_share"),
        ({"wave_pages": 0}, "extract.wave_pages"),
        ({"form": "html"}, "extract.form"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(setting: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ExtractConfig(**setting)
    assert caught.value.where == key
