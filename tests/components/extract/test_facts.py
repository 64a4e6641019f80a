"""What pages say about themselves: date, licence, opt-out, title."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract.facts import spdx_of
from components.extract.reading import Reading, read_html

TEXT = "<p>The river rose two metres in one night, and by morning the lower street was under water.</p>" * 3


def read(head: str = "", body: str = TEXT, headers: dict[str, str] | None = None, url: str = "") -> Reading:
    return read_html(f"<html><head>{head}</head><body>{body}</body></html>", url, headers)


@pytest.mark.parametrize(
    ("head", "body", "url", "date"),
    [
        ("<meta property='article:published_time' content='2024-03-05T10:00:00Z'>", TEXT, "", "2024-03-05"),
        ("<meta name='PubDate' content='2024年3月5日'>", TEXT, "", "2024-03-05"),
        ("<meta itemprop='datePublished' content='2024-03-05'>", TEXT, "", "2024-03-05"),
        ('<script type="application/ld+json">{"datePublished": "2024-03-05"}</script>', TEXT, "", "2024-03-05"),
        ('<script type="application/ld+json">{"datePublished": "2024-03-05",, broken</script>', TEXT, "", "2024-03-05"),
        ("", f"<time datetime='2024-03-05'>gestern</time>{TEXT}", "", "2024-03-05"),
        ("", f"<time>March 5, 2024</time>{TEXT}", "", "2024-03-05"),
        ("", TEXT, "https://example.org/2024/03/05/x.html", "2024-03-05"),
        ("", f"<h1>High water</h1><div class=meta>2024-03-05 10:00</div>{TEXT}", "", "2024-03-05"),
        ("", f"<h1>涨水</h1><span class=postmeta>发布时间：2024年3月5日</span>{TEXT}", "", "2024-03-05"),
        ("", f"<h1>Flood</h1>{TEXT}<p>Published: 5 March 2024</p>", "", "2024-03-05"),
        ("<meta property='article:modified_time' content='2024-03-05'>", TEXT, "", "2024-03-05"),
        ("", TEXT, "", ""),
    ],
)
def test_the_date_is_found_wherever_a_page_states_it(head: str, body: str, url: str, date: str) -> None:
    assert read(head, body, url=url).date == date


def test_publication_counts_before_change_and_metadata_before_the_url() -> None:
    head = "<meta property='article:modified_time' content='2024-09-09'>"
    head += "<meta property='article:published_time' content='2024-03-05'>"
    assert read(head, url="https://example.org/2023/01/01/x").date == "2024-03-05"


def test_a_date_in_the_running_text_is_not_the_pages_date() -> None:
    assert read(body=TEXT + "<p>" + "word " * 40 + "The old gate was built on 2001-05-06.</p>").date == ""


CC_BY_SA = "https://creativecommons.org/licenses/by-sa/4.0/"


@pytest.mark.parametrize(
    ("head", "body", "licence"),
    [
        (f"<link rel=license href='{CC_BY_SA}'>", TEXT, "CC-BY-SA-4.0"),
        (f"<link rel='copyright license' href='{CC_BY_SA}deed.en'>", TEXT, "CC-BY-SA-4.0"),
        ("<link rel=license href='https://example.org/terms'>", TEXT, "https://example.org/terms"),
        ("<meta name='dcterms.license' content='https://creativecommons.org/publicdomain/zero/1.0/'>", TEXT, "CC0-1.0"),
        ("", TEXT + f"<footer><a rel=license href='{CC_BY_SA}'>CC</a></footer>", "CC-BY-SA-4.0"),
        ("", TEXT + f"<footer>本站内容采用 <a href='{CC_BY_SA}'>知识共享</a> 许可协议</footer>", "CC-BY-SA-4.0"),
        ("", TEXT + f"<p>Text is available under the <a href='{CC_BY_SA}'>licence</a>.</p>", "CC-BY-SA-4.0"),
        ("", TEXT + "<footer>本文采用 CC BY-NC-SA 4.0 许可协议</footer>", "CC-BY-NC-SA-4.0"),
        ("", TEXT + "<footer>Licensed under CC-BY 3.0</footer>", "CC-BY-3.0"),
        (f'<script type="application/ld+json">{{"license": "{CC_BY_SA}"}}</script>', TEXT, "CC-BY-SA-4.0"),
        (
            f'<script type="application/ld+json">{{"@type":"ImageObject","license":"{CC_BY_SA}"}}</script>',
            TEXT,
            "",
        ),
        ("", TEXT + f"<p>Photo: Ann, <a href='{CC_BY_SA}'>CC BY-SA 4.0</a> licence</p>", ""),
        ("", TEXT + f"<p>图片来源：老桥，<a href='{CC_BY_SA}'>许可</a></p>", ""),
        ("", TEXT + f"<p>See <a href='{CC_BY_SA}'>this</a>.</p>", ""),
        ("", TEXT + "<footer>Copyright 2024, all rights reserved</footer>", ""),
    ],
)
def test_a_licence_is_the_pages_own_or_none(head: str, body: str, licence: str) -> None:
    assert read(head, body).licence == licence


def test_a_licence_in_the_link_header_is_found() -> None:
    assert read(headers={"link": f'<{CC_BY_SA}>; rel="license"'}).licence == "CC-BY-SA-4.0"


@pytest.mark.parametrize(
    ("reference", "spdx"),
    [
        ("http://creativecommons.org/licenses/by/3.0/de/", "CC-BY-3.0-DE"),
        ("http://creativecommons.org/licenses/by/3.0/cn/", "https://creativecommons.org/licenses/by/3.0/cn/"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("CC BY-ND 4.0", "CC-BY-ND-4.0"),
        ("CC0", "CC0-1.0"),
        ("https://www.gnu.org/licenses/fdl-1.3.html", "https://www.gnu.org/licenses/fdl-1.3.html"),
        ("all rights reserved", ""),
        ("", ""),
    ],
)
def test_a_creative_commons_licence_has_its_spdx_name(reference: str, spdx: str) -> None:
    assert spdx_of(reference) == spdx


@pytest.mark.parametrize(
    ("head", "headers", "opt_out"),
    [
        ("<meta name=robots content='noai, noimageai'>", {}, "robots noai, robots noimageai"),
        ("<meta name='GPTBot' content='NOAI'>", {}, "robots noai"),
        ("<meta name='tdm-reservation' content='1'>", {}, "tdm-reservation"),
        ("<meta name='tdm-reservation' content='0'>", {}, ""),
        ("", {"x-robots-tag": "noindex, noai"}, "robots noai"),
        ("", {"x-robots-tag": "otherbot: noimageai"}, "robots noimageai"),
        ("", {"tdm-reservation": "1"}, "tdm-reservation"),
        ("", {"content-usage": "train-ai=n"}, "content-usage no training"),
        ("", {"content-signal": "search=yes, ai-train=no"}, "content-signal no training"),
        ("<meta name=robots content='noindex, nofollow'>", {"x-robots-tag": "noarchive"}, ""),
        ("<meta name=description content='noai'>", {}, ""),
    ],
)
def test_who_asks_not_to_be_learnt_from_is_heard(head: str, headers: dict[str, str], opt_out: str) -> None:
    assert read(head, headers=headers).opt_out == opt_out


@given(
    head=st.lists(
        st.one_of(
            st.text(max_size=12),
            st.sampled_from(
                ["<meta name=date content=", "<link rel=license href=", "<script type='application/ld+json'>"]
            ),
            st.sampled_from(
                ['{"license":', '{"datePublished": "', "[" * 50, "</script>", "CC BY", "<time datetime=", ">", "'"]
            ),
        ),
        max_size=20,
    ),
    headers=st.dictionaries(
        st.sampled_from(["link", "x-robots-tag", "tdm-reservation"]), st.text(max_size=30), max_size=3
    ),
)
def test_any_head_and_headers_are_read_without_a_crash(head: list[str], headers: dict[str, str]) -> None:
    reading = read("".join(head), headers=headers)
    (reading.date + reading.licence + reading.opt_out + reading.title).encode("utf-8", "surrogatepass")
