"""Every parser that meets bytes from outside, against bytes that nobody meant.

Each check says what holds for any input at all: which error may be raised (none, or the documented one), and what is
true of the result. The strategies do not only throw noise: they put together pieces of the real syntax, and change
bytes of sound files. By default 200 cases each; the slow tests take 10,000.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from components.crawl.ai_rules import read_ai_rules
from components.crawl.crawler import retry_after
from components.crawl.encodings import BadEncoding, TooLarge, inflate
from components.crawl.feeds import MAX_FEED_URLS, named_feeds, read_feed, time_of
from components.crawl.links import MAX_LINKS, page_links
from components.crawl.robots import read_robots
from components.crawl.sitemap import MAX_SITEMAP_URLS, read_sitemap
from components.crawl.urls import host_of, join, join_all, looks_like_page, normalise, robots_url
from components.crawl.warc_read import Page, read_records
from components.documents import Document, Dropped, Outcome, iter_shard, shard_paths, write_shard
from components.errors import StepError
from components.extract.config import ExtractConfig
from components.extract.dates import parse_date
from components.extract.decode import decode_page
from components.extract.pages import extract_page
from components.ingest.config import IngestFilesConfig
from components.ingest.convert import Mapper, day, language_code
from components.ingest.rows import Piece, read_rows
from components.ingest.sources import Source
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import SPECIAL_TOKENS

FEW, MANY = 200, 10_000
URL = "http://e.com/a/b?c"
Check = Callable[[bytes, Path], None]


def _soup(*tokens: bytes) -> st.SearchStrategy[bytes]:
    """Pieces of a syntax, some noise between them."""
    noise = st.one_of(st.binary(max_size=6), st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")))
    return st.lists(st.one_of(*[st.sampled_from(tokens)] * 4, noise), max_size=40).map(b"".join)


@st.composite
def _changed(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound file with some bytes changed, and sometimes with its end cut off or some of it twice."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(0, 6))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.none(), st.integers(0, len(content))))
    twice = draw(st.booleans())
    return bytes(content[:cut]) + (bytes(content[: (cut or 0) // 2]) if twice else b"")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def check_urls(content: bytes, folder: Path) -> None:
    text = _text(content)
    for found in (normalise(text), join(URL, text), normalise(f"http://{text}"), join(f"http://e.com/{text}", "x?y")):
        if found is not None:
            assert normalise(found) == found
            assert found.isascii()
            assert host_of(found)
            assert normalise(robots_url(found)) == robots_url(found)
            looks_like_page(found)
    assert all(normalise(found) == found for found in join_all(URL, [text, text[:3], f"/{text}", f"//{text}"]))


def check_joining_twice(content: bytes, folder: Path) -> None:
    text = _text(content)
    assert join_all(URL, [text]) == [found for found in [join(URL, text)] if found is not None]


def check_robots(content: bytes, folder: Path) -> None:
    rules = read_robots(200, content)
    for url in (URL, "http://e.com/", "http://e.com/private/x"):
        assert rules.allows(url, "Headwater") in (True, False)
    assert 0 <= rules.gap_s("Headwater") < math.inf
    assert all(isinstance(one, str) for one in rules.sitemaps())


def check_ai_rules(content: bytes, folder: Path) -> None:
    read_ai_rules(content, "Headwater", ("GPTBot", "CCBot"))


def check_sitemap(content: bytes, folder: Path) -> None:
    for body in (content, gzip.compress(content, 1), b"<urlset>" + content):
        found = read_sitemap(body)
        assert max(len(found.pages), len(found.sitemaps)) <= MAX_SITEMAP_URLS
        assert all(isinstance(url, str) for url in [*found.pages, *found.sitemaps])


def check_feed(content: bytes, folder: Path) -> None:
    for body in (content, b"<rss><channel>" + content, b'{"items": [' + content + b"]}"):
        found = read_feed(body)
        assert len(found.pages) <= MAX_FEED_URLS
        assert all(0 <= time_of(changed) < math.inf for _, changed in found.pages)
    assert all(normalise(url) == url for url in named_feeds(b"<link rel=alternate " + content + b">", URL))
    assert 0 <= time_of(_text(content)) < math.inf


def check_links(content: bytes, folder: Path) -> None:
    for kind in ("text/html; charset=gbk", "", _text(content[:20])):
        found = page_links(content, kind, URL)
        assert len(found) == len(set(found)) <= MAX_LINKS
        assert all(normalise(url) == url for url in found)


def check_inflate(content: bytes, folder: Path) -> None:
    for body in (content, zlib.compress(content), gzip.compress(content, 1)):
        for names in ("gzip", "deflate", "gzip, deflate", _text(content[:12])):
            with suppress(BadEncoding, TooLarge):
                assert len(inflate(body, names, 1000, 200.0)) <= max(1000, len(body))


def check_retry_after(content: bytes, folder: Path) -> None:
    wait_s = retry_after(_text(content), 1_700_000_000.0)
    assert wait_s is None or 0 <= wait_s < math.inf


def check_warc(content: bytes, folder: Path) -> None:
    for body in (content, gzip.compress(content, 1), WARC + content):
        with suppress(StepError):
            for record in read_records(io.BytesIO(body), "x.warc.gz"):
                assert record.page.url.isprintable() or normalise(record.page.url) is None
                assert 0 <= record.page.status < 1000
                assert not (record.page.fault and record.page.payload)


def check_decode(content: bytes, folder: Path) -> None:
    for kind in ("", "text/html; charset=gb2312", "charset=" + _text(content[:10])):
        decode_page(content, kind).text.encode("utf-8")


def check_page(content: bytes, folder: Path) -> None:
    body = b"<html><body>" + content
    result = extract_page(Page(URL, 200, {"content-type": "text/html"}, body), ExtractConfig())
    assert isinstance(result, Document | Dropped)
    if isinstance(result, Document):
        result.text.encode("utf-8")
        result.title.encode("utf-8")
        assert result.text.strip()
        assert result.date == "" or date.fromisoformat(result.date)


def check_dates(content: bytes, folder: Path) -> None:
    text = _text(content)
    for found in (parse_date(text), day(text)):
        assert found == "" or date.fromisoformat(found)
    assert language_code(text) == language_code(text).lower()


def _check_file(content: bytes, folder: Path, name: str, split: str = "file") -> None:
    path = folder / name
    path.write_bytes(content)
    mapper = Mapper(IngestFilesConfig(max_row_bytes=500, lang="en"))  # stated: the model would take most of the time
    source = Source(str(path), name, len(content), "")
    with suppress(StepError):
        for row in read_rows(Piece(source), mapper.columns, split, 500):
            result = mapper.document(row, name)
            assert len(result.doc_id) == 16
            assert row.number >= 1
            for value in vars(result).values():
                if isinstance(value, str):
                    value.encode("utf-8")


def check_jsonl(content: bytes, folder: Path) -> None:
    _check_file(content, folder, "x.jsonl")
    _check_file(gzip.compress(content, 1)[: len(content)], folder, "x.jsonl.gz")


def check_documents(content: bytes, folder: Path) -> None:
    path = folder / "shard-00000.arrow"
    path.write_bytes(content)
    with suppress(StepError):
        assert all(isinstance(document, Document) for document in iter_shard(path))


def check_parquet(content: bytes, folder: Path) -> None:
    _check_file(content, folder, "x.parquet")


def check_text_file(content: bytes, folder: Path) -> None:
    for split in ("file", "paragraph", "line"):
        _check_file(content, folder, "x.txt", split)


def check_tokenizer(content: bytes, folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(content)
    with suppress(StepError):
        tokenizer = TextTokenizer.from_file(path)
        ids = tokenizer.encode("The old man 文字 <|end|>")
        assert all(len(SPECIAL_TOKENS) <= index for index in ids)
        assert isinstance(tokenizer.decode(ids), str)


def _tokenizer() -> bytes:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(SPECIAL_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the old man looks at the river " * 20], trainer)
    return tokenizer.to_str().encode()


def _documents() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        kept = [Document(bytes([n]) * 16, "web", f"http://e/{n}", "en", "", f"text {n} " * 9) for n in range(40)]
        write_shard(Path(folder), 0, Outcome(kept))
        return shard_paths(Path(folder))[0].read_bytes()


def _parquet() -> bytes:
    rows = [
        {"text": f"text {number} 中文", "meta": {"a": [1]}, "url": f"http://e.com/{number}"} for number in range(20)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=7)
    return sink.getvalue()


def _warc(url: bytes) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<p>\r\n0\r\n\r\n"
    head = b"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: " + url + b"\r\nWARC-Date: 2020-01-01T00:00:00Z\r\n"
    head += b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(block)
    return gzip.compress(head + block + b"\r\n\r\n", 1)


WARC = _warc(b"http://e.com/a") + _warc(b"http://e.com/b")
JSONL = "\n".join(
    json.dumps({"text": f"text {n}", "meta": {"url": "x"}, "lang": "zh", "date": "2020-01-02"}) for n in range(5)
)
HTML_TOKENS = (
    *(b"<p>", b"</p>", b"<div class=nav>", b"</div>", b"<table><tr><td>", b"<pre>", b"<li>", b"<title>", b"<h1>"),
    *(b"<!--", b"-->", b"<script>", b"</script>", b"<meta charset=gbk>", b"<base href=//x/>", b"<a href='", b"'>"),
    *(
        b"<template>",
        b"&#xd800;",
        b"&nbsp;",
        b"<svg><p>",
        b"\x00",
        b"\xff\xfe",
        "文字。".encode(),
        b"The old man. " * 8,
    ),
    *(
        "文字".encode("gbk"),
        b'<meta name=robots content="noai">',
        b"<time datetime=2020-01-02>",
        b"<br>",
        b"2020-13-99",
    ),
    *(b'<script type="application/ld+json">{"@type":', b'"license": ["x", {}]}', b"<link rel=license href=x>"),
)
URL_TOKENS = (
    *(
        b"http",
        b"https",
        b"://",
        b"//",
        b"/",
        b"\\",
        b"..",
        b".",
        b"?",
        b"#",
        b"&",
        b"=",
        b";",
        b":",
        b"@",
        b"%",
        b"%2e",
    ),
    *(
        b"%00",
        b"[::1]",
        b"[",
        b"]",
        b"e.com",
        b"127.0.0.1",
        b"0x7f.1",
        b"xn--",
        "例子。测试".encode(),
        b":80",
        b":0",
        b":x",
    ),
    *(
        b"utm_source=x",
        b";jsessionid=",
        b"\t",
        b"\n",
        b" ",
        b"\x00",
        b"\xed\xa0\x80",
        b"\xff",
        b"javascript:",
        "①".encode(),
    ),
)
ROBOTS_TOKENS = (
    *(b"User-agent: *", b"User-agent: headwater", b"Disallow: /", b"Allow: /", b"*", b"$", b"\n", b"\r", b"#", b": "),
    *(
        b"Crawl-delay: ",
        b"Request-rate: 1/",
        b"Visit-time: 0000-",
        b"Sitemap: http://",
        b"1e999",
        b"-1",
        b"nan",
        b"\xff",
    ),
    *(
        b"Content-Signal: ",
        b"ai-train=no",
        b"Content-Usage: /x train-ai=n",
        b"DisallowAITraining: /",
        b"%2F",
        b"\xef\xbb\xbf",
    ),
)
XML_TOKENS = (
    *(
        b"<urlset>",
        b"<sitemapindex>",
        b"<sitemap>",
        b"<url>",
        b"</url>",
        b"<loc>",
        b"</loc>",
        b"http://e.com/",
        b"&amp;",
    ),
    *(b"<lastmod>", b"</lastmod>", b"2020-01-01", b"<![CDATA[", b"]]>", b"<!DOCTYPE x [", b"<!ENTITY a 'b'>", b"&a;"),
    *(b"<?xml version='1.0' encoding='", b"'?>", b"utf-16", b"<rss>", b"<channel>", b"<item>", b"</item>", b"<link>"),
    *(
        b"</link>",
        b"<entry>",
        b"<link href='",
        b"'/>",
        b"<guid>",
        b"<pubDate>Mon, 01 Jan 99999 00:00:00 +9999",
        b"\xff",
    ),
    *(
        b'{"items": [',
        b'{"url": "http://',
        b'"date_modified": ',
        b"]}",
        b"\n",
        b"http://e.com/x\n",
        b"<a:b xmlns:a='x'>",
    ),
)
DATE_TOKENS = (
    *(
        b"2020",
        b"-",
        b"/",
        b"01",
        b"13",
        b"99",
        b"T",
        b"12:00:00",
        b"Z",
        b"+99:99",
        b"Mon, ",
        b"Jan",
        b" ",
        b"GMT",
        b"0",
    ),
    *(
        "年".encode(),
        "月".encode(),
        "日".encode(),
        "二〇二〇".encode(),
        b"99999999999999999999",
        b"-5",
        b"1e5",
        b"zh-CN",
        b".",
    ),
)
JSON_TOKENS = (
    *(
        b'{"text": "',
        b'"}',
        b"\n",
        b'{"text": ',
        b"}",
        b"[",
        b"null",
        b'"url": "',
        b'", ',
        b"\\ud800",
        b"\\n",
        b"\xff",
        b"9" * 600,
    ),
    *(
        b"x" * 300,
        b"\r\n",
        b"\xef\xbb\xbf",
        b'"meta": {',
        b"true",
        b"NaN",
        "文字".encode(),
        b"\x00",
        b'"lang": "EN_us"',
    ),
)
TEXT_TOKENS = (
    b"line",
    b"\n",
    b"\n\n",
    b"\r",
    b"\x85",
    b"\xff\xfe",
    b"\xfe\xff",
    "文字".encode("utf-16"),
    "文字".encode("gbk"),
    b"x" * 400,
)
CODING_TOKENS = (b"gzip", b", ", b"deflate", b"\x1f\x8b\x08", b"x-gzip", b"br", bytes(50), b"\x78\x9c", b"\xff")
WARC_TOKENS = (
    *(b"WARC/1.0\r\n", b"WARC-Type: response\r\n", b"Content-Length: 9\r\n", b"Content-Length: -1\r\n", b"\r\n\r\n"),
    *(
        b"WARC-Target-URI: http://e.com/\r\n",
        b"Content-Type: application/http;msgtype=response\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ),
    *(
        b"WARC-Type: revisit\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"\n",
        b"<p>",
        b"Content-Encoding: gzip\r\n",
    ),
)
PARSERS: dict[str, tuple[Check, st.SearchStrategy[bytes]]] = {
    "urls": (check_urls, _soup(*URL_TOKENS)),
    "joining": (check_joining_twice, _soup(*URL_TOKENS)),
    "robots": (check_robots, _soup(*ROBOTS_TOKENS)),
    "AI rules": (check_ai_rules, _soup(*ROBOTS_TOKENS)),
    "sitemaps": (check_sitemap, _soup(*XML_TOKENS)),
    "feeds": (check_feed, _soup(*XML_TOKENS)),
    "links": (check_links, _soup(*HTML_TOKENS, *URL_TOKENS)),
    "content encodings": (check_inflate, _soup(*CODING_TOKENS)),
    "Retry-After": (check_retry_after, _soup(*DATE_TOKENS)),
    "WARC": (check_warc, _soup(*WARC_TOKENS)),
    "changed WARC": (check_warc, _changed(WARC)),
    "page encodings": (check_decode, _soup(*HTML_TOKENS, *TEXT_TOKENS)),
    "pages": (check_page, _soup(*HTML_TOKENS)),
    "dates and codes": (check_dates, _soup(*DATE_TOKENS)),
    "JSONL": (check_jsonl, _soup(*JSON_TOKENS)),
    "changed JSONL": (check_jsonl, _changed(JSONL.encode())),
    "text files": (check_text_file, _soup(*TEXT_TOKENS)),
    "changed Parquet": (check_parquet, _changed(_parquet())),
    "changed document shards": (check_documents, _changed(_documents())),
    "changed tokenizers": (check_tokenizer, _changed(_tokenizer())),
}


def _fuzz(name: str, folder: Path, cases: int) -> None:
    check, strategy = PARSERS[name]
    seen = 0

    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(content: bytes) -> None:
        nonlocal seen
        seen += 1
        check(content, folder)

    run()
    assert seen >= cases


@pytest.mark.parametrize("name", PARSERS)
def test_no_input_brings_a_parser_down(name: str, tmp_path: Path):
    _fuzz(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_no_input_of_ten_thousand_brings_a_parser_down(name: str, tmp_path: Path):
    _fuzz(name, tmp_path, MANY)
