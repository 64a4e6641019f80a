"""WARC files of any making, read; and what is damaged, refused by name."""

from __future__ import annotations

import gzip
import io
from contextlib import suppress
from pathlib import Path

import brotli
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crawl import warc_read
from components.crawl.warc_read import Page, find_pages, open_record, read_file, read_pages, read_records, unchunked
from components.errors import StepError

HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"


def _record(block: bytes, url: str = "http://e.com/a", kind: str = "response", version: str = "1.0", **fields) -> bytes:
    head = {"WARC-Type": kind, "WARC-Target-URI": url, "WARC-Date": "2020-01-01T00:00:00Z"}
    head |= {f"WARC-{name.replace('_', '-')}": value for name, value in fields.items()}
    head |= {"Content-Type": "application/http; msgtype=response", "Content-Length": str(len(block))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"WARC/{version}\r\n{lines}\r\n".encode() + block + b"\r\n\r\n"


def _file(folder: Path, *records: bytes, name: str = "a.warc.gz") -> Path:
    path = folder / name
    pack = gzip.compress if name.endswith(".gz") else bytes
    path.write_bytes(b"".join(map(pack, records)))
    return path


def _page(folder: Path, head: bytes, body: bytes, **fields) -> Page:
    (page,) = read_file(_file(folder, _record(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body, **fields)))
    return page


THREE = [_record(HTML + b"<p>%d" % number * 30, f"http://e.com/{number}") for number in range(3)]
WAYS = {
    "gzip members": (b"".join(map(gzip.compress, THREE)), "a.warc.gz"),
    "one gzip stream": (gzip.compress(b"".join(THREE)), "a.warc.gz"),
    "plain": (b"".join(THREE), "a.warc"),
    "zstd": (pa.compress(b"".join(THREE), codec="zstd", asbytes=True), "a.warc.zst"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_packing_is_read(tmp_path: Path, way: str):
    content, name = WAYS[way]
    (tmp_path / name).write_bytes(content)
    assert [page.url for page in read_pages(tmp_path)] == [f"http://e.com/{number}" for number in range(3)]
    assert {page.payload[:3] for page in read_pages(tmp_path)} == {b"<p>"}


@pytest.mark.parametrize("way", ["gzip members", "plain", "zstd", "one gzip stream"])
def test_a_file_cut_off_anywhere_inside_a_record_is_refused_with_its_name_and_an_offset(tmp_path: Path, way: str):
    content, name = WAYS[way]
    records = THREE if way == "plain" else list(map(gzip.compress, THREE)) if way == "gzip members" else [content]
    between = {sum(map(len, records[:number])) - slack for number in range(4) for slack in range(5)}
    path = tmp_path / name
    for cut in set(range(1, len(content))) - between:
        path.write_bytes(content[:cut])
        with pytest.raises(StepError, match=name) as failure:
            list(read_file(path))
        assert "byte" in failure.value.where


@pytest.mark.parametrize("way", ["gzip members", "plain"])
def test_of_a_file_cut_off_the_last_half_record_is_not_given_as_a_page(tmp_path: Path, way: str):
    content, name = WAYS[way]
    (tmp_path / name).write_bytes(content[:-60])
    given_pages: list[Page] = []
    with pytest.raises(StepError):
        given_pages.extend(read_file(tmp_path / name))
    assert [page.payload for page in given_pages] == [b"<p>%d" % number * 30 for number in range(2)]


@given(st.integers(0, len(WAYS["gzip members"][0]) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_an_error_or_the_same_pages(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
):
    folder = tmp_path_factory.mktemp("warc")
    content = bytearray(WAYS["gzip members"][0])
    content[place] ^= change
    path = folder / "a.warc.gz"
    path.write_bytes(bytes(content))
    try:
        found = [(page.url, page.payload) for page in read_file(path)]
    except StepError:
        pass
    else:
        assert found == [(f"http://e.com/{number}", b"<p>%d" % number * 30) for number in range(3)]


def test_a_record_is_opened_where_its_page_says_it_is(tmp_path: Path):
    for content, name in (WAYS["gzip members"], WAYS["plain"]):
        (tmp_path / name).write_bytes(content)
        for page in read_file(tmp_path / name):
            assert open_record(tmp_path / name, page.offset) == page
            assert page.file == name


def test_an_offset_where_no_answer_begins_is_refused(tmp_path: Path):
    path = _file(tmp_path, *THREE)
    with pytest.raises(StepError):
        open_record(path, 5)
    with pytest.raises(StepError, match="No answer"):
        open_record(path, path.stat().st_size)


def test_pages_of_one_url_are_found_by_any_of_its_spellings(tmp_path: Path):
    _file(tmp_path, *THREE)
    assert [page.url for page in find_pages(tmp_path, "HTTP://E.com:80/1#x")] == ["http://e.com/1"]


@pytest.mark.parametrize(
    ("head", "body", "payload"),
    [
        (b"Transfer-Encoding: chunked", b"3\r\n<p>\r\n2;x=y\r\nhi\r\n0\r\n\r\n", b"<p>hi"),
        (b"Transfer-Encoding: chunked", b"<p>not chunked", b"<p>not chunked"),
        (b"Transfer-Encoding: chunked", b"3\r\n<p>\r\nff\r\nhi", b"<p>hi"),
        (b"Content-Encoding: gzip", gzip.compress(b"<p>hi"), b"<p>hi"),
        (b"Content-Encoding: gzip", b"<p>stored decoded", b"<p>stored decoded"),
        (b"Content-Encoding: br", brotli.compress(b"<p>hi"), b"<p>hi"),
        (
            b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked",
            b"%x\r\n" % len(gzip.compress(b"<p>")) + gzip.compress(b"<p>") + b"\r\n0\r\n\r\n",
            b"<p>",
        ),
    ],
)
def test_a_body_is_what_it_is_whatever_its_headers_say(tmp_path: Path, head: bytes, body: bytes, payload: bytes):
    page = _page(tmp_path, head, body)
    assert (page.payload, page.fault) == (payload, "")


def test_a_body_that_is_no_encoding_and_no_text_is_a_fault_and_the_next_record_is_read(tmp_path: Path):
    broken = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x00\x01\x02"
    path = _file(tmp_path, _record(broken), _record(HTML + b"<p>"))
    first, second = read_file(path)
    assert "gzip" in first.fault
    assert (first.payload, second.payload) == (b"", b"<p>")


def test_a_bomb_is_a_fault_and_not_a_gigabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warc_read, "MAX_PAYLOAD_BYTES", 1000)
    page = _page(tmp_path, b"Content-Encoding: gzip", gzip.compress(bytes(1 << 15)))
    assert (page.payload, page.fault) == (b"", "inflates to more than 1000 bytes")
    assert "more than 1000" in _page(tmp_path, b"Content-Type: text/html", bytes(2000)).fault


def test_headers_come_in_lower_case_and_repeated_ones_joined(tmp_path: Path):
    page = _page(tmp_path, b"X-Robots-Tag: noai\r\nx-robots-tag: noindex\r\nX-Name: \xe9", b"")
    assert page.headers == {"x-robots-tag": "noai, noindex", "x-name": "é"}


def test_a_header_longer_than_most_is_read_and_one_beyond_reason_is_a_fault(tmp_path: Path):
    assert _page(tmp_path, b"X: " + b"y" * 100_000, b"<p>").payload == b"<p>"
    assert "header" in _page(tmp_path, b"X: " + b"y" * 2_000_000, b"<p>").fault


@pytest.mark.parametrize("block", [b"", b"<p>no header", b"HTTP/1.1 abc\r\n\r\n<p>", b"\x16\x03\x01\x02\x00"])
def test_an_answer_without_a_status_line_is_a_fault(tmp_path: Path, block: bytes):
    (page,) = read_file(_file(tmp_path, _record(block)))
    assert page.status == 0
    assert page.fault


def test_a_truncated_record_says_so(tmp_path: Path):
    assert _page(tmp_path, b"A: b", b"<p>", Truncated="length").truncated == "length"


def test_urls_are_in_one_spelling_and_records_of_no_page_are_passed_over(tmp_path: Path):
    other = _record(b"20200101 e.com 1.1.1.1", "dns:e.com").replace(b"application/http; msgtype=response", b"text/dns")
    path = _file(tmp_path, other, _record(HTML, "<HTTP://E.com:80/a?utm_source=x>"), _record(HTML, kind="request"))
    assert [page.url for page in read_file(path)] == ["http://e.com/a"]


REFERENCES = [
    {"Refers_To": "<urn:uuid:1>"},
    {"Refers_To_Target_URI": "http://e.com/a", "Refers_To_Date": "2020-01-01T00:00:00Z"},
    {"Payload_Digest": "sha1:AAA"},
]
FIRST = _record(HTML + b"<p>body", Record_ID="<urn:uuid:1>", Payload_Digest="sha1:AAA")


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_revisit_of_another_url_has_the_body_it_refers_to_from_whatever_file(tmp_path: Path, reference):
    late = b"HTTP/1.1 200 OK\r\nX-Robots-Tag: noai\r\nContent-Length: 0\r\n\r\n"
    _file(tmp_path, _record(late, "http://e.com/b", "revisit", "1.1", **reference), name="a.warc")
    _file(tmp_path, _record(HTML + b"other", "http://e.com/z", Payload_Digest="sha1:BBB"), FIRST, name="b.warc.gz")
    page = next(read_pages(tmp_path))
    assert (page.url, page.status, page.payload, page.fault) == ("http://e.com/b", 200, b"<p>body", "")
    assert page.headers == {"content-type": "text/html", "x-robots-tag": "noai"}


@pytest.mark.parametrize("reference", [*REFERENCES, {}])
def test_a_revisit_of_the_same_url_adds_no_second_page(tmp_path: Path, reference):
    _file(tmp_path, FIRST, _record(b"HTTP/1.1 304 Not Modified\r\n\r\n", kind="revisit", **reference))
    assert [page.status for page in read_pages(tmp_path)] == [200]


@pytest.mark.parametrize("status", [b"304 Not Modified", b"200 OK"])
def test_a_revisit_whose_response_is_elsewhere_is_given_without_a_body(tmp_path: Path, status: bytes):
    block = b"HTTP/1.1 " + status + b"\r\n\r\n"
    _file(tmp_path, _record(block, "http://e.com/b", "revisit", Payload_Digest="sha1:CCC"), FIRST)
    page, _ = read_pages(tmp_path)
    assert (page.status, page.payload, page.fault) == (int(status[:3]), b"", "revisit without its response")


@given(st.binary(max_size=400))
def test_unchunking_never_fails_and_undoes_chunks(body: bytes):
    assert isinstance(unchunked(body), bytes)
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert unchunked(framed) == (body or b"")


@given(st.binary(max_size=400))
def test_any_bytes_are_pages_or_a_named_error(content: bytes):
    for given_bytes in (content, gzip.compress(content), b"WARC/1.0\r\n" + content, THREE[0] + content):
        with suppress(StepError):
            list(read_records(io.BytesIO(given_bytes), "x.warc"))


def test_an_empty_file_holds_no_page(tmp_path: Path):
    (tmp_path / "a.warc.gz").touch()
    assert list(read_pages(tmp_path)) == []
