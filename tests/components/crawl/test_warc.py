"""WARC files: written, cut, continued, read."""

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from components.crawl.fetch import Answer
from components.crawl.frontier import Position
from components.crawl.urls import normalise
from components.crawl.warc import IDENTICAL, NOT_MODIFIED, Origin, WarcWriter, read_links
from components.crawl.warc_read import read_pages
from components.errors import StepError

ABOUT = {"software": "test"}


def _answer(url: str = "http://e.com/a", wire: bytes = b"hello", headers: dict[str, str] | None = None) -> Answer:
    sent = list((headers or {"Content-Type": "text/html"}).items())
    asked = [("Host", "e.com"), ("User-Agent", "test")]
    return Answer(url, 200, "OK", sent, asked, wire, wire, "127.0.0.1")


def _write(
    folder: Path, *answers: Answer, committed: dict[str, int] | None = None, size: int = 1 << 20
) -> list[Position]:
    writer = WarcWriter(folder, committed or {}, size, ABOUT)
    places = [writer.write(answer) for answer in answers]
    writer.close()
    return places


@given(st.binary(max_size=300), st.text(alphabet="abc/?=%20", max_size=20))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, body: bytes, path: str):
    folder = tmp_path_factory.mktemp("warc")
    _write(
        folder,
        _answer(f"http://e.com/{path}", body, {"Content-Type": "text/html", "Set-Cookie": "a", "set-cookie": "b"}),
    )
    (page,) = read_pages(folder)
    assert (page.url, page.status, page.payload) == (normalise(f"http://e.com/{path}"), 200, body)
    assert page.headers == {"content-type": "text/html", "set-cookie": "a, b"}


def test_a_compressed_body_stays_so_in_the_file_and_is_plain_when_read(tmp_path: Path):
    wire = gzip.compress(b"hello" * 100)
    _write(tmp_path, _answer(wire=wire, headers={"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}))
    with (tmp_path / "pages-00001.warc.gz").open("rb") as file:
        bodies = [record.raw_stream.read() for record in ArchiveIterator(file) if record.rec_type == "response"]
    assert bodies == [wire]
    (page,) = read_pages(tmp_path)
    assert page.payload == b"hello" * 100


def test_every_file_opens_with_its_origin_and_pairs_response_with_request(tmp_path: Path):
    _write(tmp_path, _answer("http://e.com/a?b=1"))
    with (tmp_path / "pages-00001.warc.gz").open("rb") as file:
        records = [(record.rec_type, record.rec_headers, record.http_headers) for record in ArchiveIterator(file)]
    assert [kind for kind, _, _ in records] == ["warcinfo", "response", "request"]
    assert all(head.protocol == "WARC/1.1" for _, head, _ in records)
    assert records[2][1].get_header("WARC-Concurrent-To") == records[1][1].get_header("WARC-Record-ID")
    assert records[2][2].protocol == "GET"
    assert records[2][2].statusline == "/a?b=1 HTTP/1.1"
    assert records[1][1].get_header("WARC-IP-Address") == "127.0.0.1"


def test_a_position_is_where_the_record_can_be_read_alone(tmp_path: Path):
    places = _write(tmp_path, *(_answer(f"http://e.com/{name}") for name in "abc"))
    content = (tmp_path / places[1].file).read_bytes()[places[1].offset : places[1].end]
    record = next(iter(ArchiveIterator(io.BytesIO(content))))
    assert record.rec_headers.get_header("WARC-Target-URI") == "http://e.com/b"


def test_what_was_not_committed_is_cut_off_and_the_file_goes_on(tmp_path: Path):
    places = _write(tmp_path, *(_answer(f"http://e.com/{name}") for name in "abc"))
    with (tmp_path / places[0].file).open("ab") as file:
        file.write(b"\x1f\x8b half a record")
    (tmp_path / "pages-00002.warc.gz").write_bytes(b"begun, nothing committed")
    _write(tmp_path, _answer("http://e.com/d"), committed={places[1].file: places[1].end})
    assert [page.url[-1] for page in read_pages(tmp_path)] == ["a", "b", "d"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_file_is_followed_by_the_next(tmp_path: Path):
    places = _write(tmp_path, *(_answer(f"http://e.com/{name}") for name in "abc"), size=1)
    assert [place.file for place in places] == [f"pages-0000{number}.warc.gz" for number in (1, 2, 3)]
    assert [page.url[-1] for page in read_pages(tmp_path)] == ["a", "b", "c"]


def test_a_damaged_file_is_named(tmp_path: Path):
    (place,) = _write(tmp_path, _answer(wire=bytes(range(256)) * 50))
    path = tmp_path / place.file
    content = bytearray(path.read_bytes())
    content[place.offset + 40 : place.offset + 80] = bytes(40)
    path.write_bytes(bytes(content))
    with pytest.raises(StepError, match=place.file):
        list(read_pages(tmp_path))


def test_files_of_other_programs_are_read_chunks_and_all(tmp_path: Path):
    with (tmp_path / "other.warc").open("wb") as file:
        writer = WARCWriter(file, gzip=False)
        head = StatusAndHeaders("200 OK", [("Transfer-Encoding", "chunked")], protocol="HTTP/1.1")
        body = io.BytesIO(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        writer.write_record(writer.create_warc_record("http://e.com/", "response", payload=body, http_headers=head))
    (page,) = read_pages(tmp_path)
    assert page.payload == b"abcde"


def _records(folder: Path) -> list[tuple[str, dict[str, str], bytes]]:
    """Kind, fields and block of every record, as another program reads them, digests checked."""
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                fields = {name.lower(): value for name, value in record.rec_headers.headers}
                found.append((record.rec_type, fields, record.content_stream().read()))
    return found


def _group(folder: Path, place: Position) -> bytes:
    return (folder / place.file).read_bytes()[place.offset : place.end]


@given(st.binary(max_size=300), st.lists(st.sampled_from("abc"), max_size=3))
def test_another_program_agrees_with_every_digest_and_length(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, links: list[str]
):
    folder = tmp_path_factory.mktemp("warc")
    writer = WarcWriter(folder, {}, 1 << 20, ABOUT)
    writer.write(_answer(wire=body), Origin("link", "http://e.com/", 1, [f"http://e.com/{name}" for name in links]))
    writer.close()
    kinds = [kind for kind, _, _ in _records(folder)]
    assert kinds == ["warcinfo", "response", "request", "metadata"]


def test_headers_are_kept_byte_for_byte(tmp_path: Path):
    sent = {"Content-Type": "text/html", "X-Name": "na\u00efve \u00ff", "x-robots-tag": "noai"}
    place = _write(tmp_path, _answer(headers=sent))[0]
    assert b"X-Name: na\xefve \xff\r\nx-robots-tag: noai\r\n" in gzip.decompress(_group(tmp_path, place))


def test_links_and_feeds_are_read_back(tmp_path: Path):
    links, feeds = ["http://e.com/1", "http://e.com/2"], ["http://e.com/feed"]
    writer = WarcWriter(tmp_path, {}, 1 << 20, ABOUT)
    place = writer.write(_answer(), Origin("seed", "", 0, links, feeds))
    writer.close()
    assert read_links(tmp_path, place) == (links, feeds)


def test_a_revisit_stands_before_the_earlier_group_and_refers_to_it(tmp_path: Path):
    earlier = _group(tmp_path / "one", _write(tmp_path / "one", _answer())[0])
    writer = WarcWriter(tmp_path / "two", {}, 1 << 20, ABOUT)
    same = Answer("http://e.com/a", 304, "Not Modified", [("ETag", '"x"')], [("Host", "e.com")], b"", b"", "127.0.0.1")
    place = writer.write_revisit(same, NOT_MODIFIED, earlier, Origin("recrawl"))
    writer.close()
    assert _group(tmp_path / "two", place) == earlier
    records = _records(tmp_path / "two")
    assert [kind for kind, _, _ in records] == ["warcinfo", "revisit", "request", "metadata", "response", "request"]
    revisit, response = records[1][1], records[4][1]
    assert revisit["warc-profile"] == "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
    assert revisit["warc-refers-to"] == response["warc-record-id"]
    assert revisit["warc-refers-to-date"] == response["warc-date"]
    assert [page.status for page in read_pages(tmp_path / "two")] == [200]


def test_a_revisit_for_the_same_body_has_its_digest(tmp_path: Path):
    earlier = _group(tmp_path / "one", _write(tmp_path / "one", _answer())[0])
    writer = WarcWriter(tmp_path / "two", {}, 1 << 20, ABOUT)
    writer.write_revisit(_answer(), IDENTICAL, earlier)
    writer.close()
    with (tmp_path / "two/pages-00001.warc.gz").open("rb") as file:
        found = [record.rec_headers for record in ArchiveIterator(file)]
    revisit, response = (
        next(h for h in found if h.get_header("WARC-Type") == kind) for kind in ("revisit", "response")
    )
    assert revisit.get_header("WARC-Payload-Digest") == response.get_header("WARC-Payload-Digest")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_group_is_never_taken_over_as_it_is(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int):
    folder = tmp_path_factory.mktemp("warc")
    earlier = _group(folder, _write(folder, _answer(wire=bytes(range(256)) * 4))[0])
    damaged = bytearray(earlier)
    damaged[at % len(earlier)] = byte
    writer = WarcWriter(folder / "two", {}, 1 << 20, ABOUT)
    whole = gzip.decompress(earlier)
    try:
        place = writer.carry(bytes(damaged), "http://e.com/a")
    except StepError:
        return
    writer.close()
    assert gzip.decompress(_group(folder / "two", place)) == whole  # Only fields of gzip that mean nothing differ.


def test_files_of_parts_have_names_of_their_own(tmp_path: Path):
    writer = WarcWriter(tmp_path, {}, 1, ABOUT, "pages-003")
    places = [writer.write(_answer()), writer.write(_answer())]
    writer.close()
    assert [place.file for place in places] == ["pages-003-00001.warc.gz", "pages-003-00002.warc.gz"]
    again = WarcWriter(tmp_path, {place.file: place.end for place in places}, 1 << 20, ABOUT, "pages-003")
    assert again.write(_answer()).file == "pages-003-00002.warc.gz"
    again.close()
