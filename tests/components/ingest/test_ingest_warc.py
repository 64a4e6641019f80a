"""Pages of other people's WARC files, copied."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from components.context import local_context
from components.crawl.warc_read import read_pages
from components.documents import read_documents
from components.errors import StepError
from components.extract.config import ExtractConfig
from components.extract.step import extract
from components.ingest import archives
from components.publish import read_json

ENGLISH = (
    b"<html><body><article><p>" + b"The old man looks at the river and thinks of the sea. " * 5 + b"</p></article>"
)


def _urls(context) -> list[str]:
    return [page.url for page in read_pages(context.output / "warc")]


def test_html_answers_are_copied_as_they_stand_and_all_else_is_counted(tmp_path: Path, run_warc, record):
    packed = gzip.compress(b"<html>packed")
    content = [
        record("http://e.com/a", b"<html>caf\xe9", b"Content-Type: text/html; charset=latin-1\r\nX-Robots-Tag: noai"),
        record("http://e.com/z", packed, b"Content-Type: text/html\r\nContent-Encoding: gzip"),
        record("http://e.com/b", head=b"X: y"),
        record("http://e.com/c.png", b"\x89PNG", b"Content-Type: image/png"),
        record("http://e.com/d", b"{}", b"X: y"),
        record("http://e.com/e", status=b"404 Not Found"),
        record("http://e.com/f", status=b"301 Moved"),
        record("ftp://e.com/g"),
        record("http://e.com/h", b"\x00\x01", b"Content-Type: text/html\r\nContent-Encoding: gzip"),
        record("http://e.com/i", b"<html>" + b"x" * 2000),
        record("http://e.com/j", kind="request"),
    ]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(content))
    context = run_warc(tmp_path / "a.warc.gz", max_page_bytes=1000)
    first, second, third = read_pages(context.output / "warc")
    assert (first.payload, first.headers["x-robots-tag"]) == (b"<html>caf\xe9", "noai")
    assert (second.payload, second.url, third.url) == (b"<html>packed", "http://e.com/z", "http://e.com/b")
    assert first.fetched_at == "2020-01-01T00:00:00Z"
    summary = read_json(context.output / "summary.json")
    assert (summary["read"], summary["kept"]) == (10, 3)
    assert summary["skipped"] == {
        "URL": 1,
        "content type": 2,
        "page bytes": 1,
        "payload": 1,
        "status 301": 1,
        "status 404": 1,
    }


def test_one_output_file_for_each_input_whatever_the_order(tmp_path: Path, run_warc, record):
    for name in ("in/b.warc.gz", "in/x/a b.warc.gz", "in/c.warc"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = record(f"http://e.com/{path.stem[0]}")
        path.write_bytes(gzip.decompress(content) if name.endswith("warc") else content)
    first = run_warc(tmp_path / "in")
    second = run_warc(tmp_path / "in/x/../c.warc", tmp_path / "in/b.warc.gz", tmp_path / "in", place="second")
    names = ["00000-b.warc.gz", "00001-c.warc.gz", "00002-x-a-b.warc.gz"]
    assert sorted(path.name for path in (first.output / "warc").iterdir()) == names
    assert set(_urls(first)) == set(_urls(second)) == {f"http://e.com/{name}" for name in "abc"}


def test_a_revisit_is_copied_and_resolved_with_its_response(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("http://e.com/a", Payload_Digest="sha1:A"))
    late = record("http://e.com/b", b"", kind="revisit", Payload_Digest="sha1:A")
    (tmp_path / "b.warc.gz").write_bytes(late + record("http://e.com/c", b"", kind="revisit", status=b"404 Gone"))
    pages = list(read_pages(run_warc(tmp_path / "*.warc.gz").output / "warc"))
    assert [(page.url, page.payload) for page in pages] == [
        ("http://e.com/a", b"<html><p>text</p>"),
        ("http://e.com/b", b"<html><p>text</p>"),
    ]


def test_truncated_pages_are_left_out_on_request(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("http://e.com/a", Truncated="length") + record("http://e.com/b"))
    assert len(_urls(run_warc(tmp_path / "a.warc.gz", place="all"))) == 2
    assert _urls(run_warc(tmp_path / "a.warc.gz", keep_truncated=False)) == ["http://e.com/b"]


def test_a_damaged_file_ends_the_step_and_leaves_no_output(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("http://e.com/a") + record("http://e.com/b")[:-30])
    with pytest.raises(StepError, match=r"a\.warc\.gz is damaged") as failure:
        run_warc(tmp_path / "a.warc.gz")
    assert "byte" in failure.value.where
    assert not list((tmp_path / "run/output").rglob("*.gz"))


def test_a_damaged_file_is_read_up_to_the_damage_on_request_and_counted(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("http://e.com/a") + record("http://e.com/b")[:-30])
    context = run_warc(tmp_path / "a.warc.gz", skip_damaged=True)
    assert _urls(context) == ["http://e.com/a"]
    (part,) = read_json(context.output / "summary.json")["files"]
    assert "byte" in part["damage"]


def test_a_stopped_step_does_not_read_a_file_twice(tmp_path: Path, run_warc, record, monkeypatch: pytest.MonkeyPatch):
    for name in "ab":
        (tmp_path / f"{name}.warc.gz").write_bytes(record(f"http://e.com/{name}"))
    read: list[str] = []
    real = archives.read_records

    def read_records(file, name):
        read.append(name)
        if read == ["a.warc.gz", "b.warc.gz"]:
            raise KeyboardInterrupt
        return real(file, name)

    monkeypatch.setattr(archives, "read_records", read_records)
    with pytest.raises(KeyboardInterrupt):
        run_warc(tmp_path / "*.warc.gz", wave_files=1)
    context = run_warc(tmp_path / "*.warc.gz", wave_files=1)
    assert read == ["a.warc.gz", "b.warc.gz", "b.warc.gz"]
    assert _urls(context) == ["http://e.com/a", "http://e.com/b"]
    assert [path.suffix for path in (context.output / "warc").iterdir()] == [".gz", ".gz"]


def test_archives_without_a_page_are_refused_with_the_reasons(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("http://e.com/a", status=b"404 Not Found"))
    with pytest.raises(StepError, match="status 404"):
        run_warc(tmp_path / "a.warc.gz")


def test_extract_reads_what_was_ingested(tmp_path: Path, run_warc, record):
    (tmp_path / "a.warc.gz").write_bytes(record("HTTP://E.com:80/a", ENGLISH))
    context = local_context("extract", tmp_path / "extract")
    extract(context, ExtractConfig(), run_warc(tmp_path / "a.warc.gz").output)
    (document,) = read_documents(context.output)
    assert (document.url, document.lang) == ("http://e.com/a", "en")
