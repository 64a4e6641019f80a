"""Documents out of files of every kind."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.context import local_context
from components.documents import read_documents, read_dropped
from components.errors import ConfigError, Preempted, StepError
from components.ingest import pieces, rows, step
from components.ingest.config import IngestFilesConfig
from components.ingest.sources import find_sources, fingerprint
from components.publish import read_json

EN = "The quick brown fox jumps over the lazy dog and the old man looks at the river."
ZH = "这是一个很长的中文句子，说明这里的文字是中文，而不是别的语言。"


def _write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _texts(context) -> set[str]:
    return {document.text for document in read_documents(context.output)}


def _drops(context) -> list[tuple[str, str, str]]:
    return sorted((row.rule, row.url, row.value) for row in read_dropped(context.output))


def test_a_row_becomes_a_document_with_all_it_says(tmp_path: Path, run_files):
    row = {"text": f" {EN}\n", "url": "HTTP://E.com/a?utm_source=x", "title": "Fox", "lang": "en-GB", "id": 7}
    row |= {"date": "2020-02-03T04:05:06Z", "license": "CC-BY-4.0", "opt_out": "robots noai"}
    (found,) = read_documents(run_files(_write(tmp_path / "a.jsonl", row)).output)
    assert (found.text, found.url, found.title, found.lang, found.script) == (EN, "http://e.com/a", "Fox", "en", "Latn")
    assert (found.date, found.licence, found.opt_out, found.source) == (
        "2020-02-03",
        "CC-BY-4.0",
        "robots noai",
        "files",
    )


def test_language_and_script_are_found_where_the_row_says_nothing(tmp_path: Path, run_files):
    context = run_files(_write(tmp_path / "a.jsonl", {"text": EN}, {"text": ZH, "lang": "??"}))
    assert {(one.lang, one.script) for one in read_documents(context.output)} == {("en", "Latn"), ("zh", "Hans")}


def test_a_row_without_url_is_known_by_its_id_and_else_by_its_place(tmp_path: Path, run_files):
    context = run_files(_write(tmp_path / "a.jsonl", {"text": EN, "id": 12}, {"text": ZH}))
    assert {document.url for document in read_documents(context.output)} == {"12", "a.jsonl#2"}


def test_fields_are_looked_for_where_the_config_says(tmp_path: Path, run_files):
    row = {"content": EN, "meta": {"link": "http://e.com/x", "corpus": "wiki"}, "a.b": "Dotted", "title": "no"}
    fields = {"text": "content", "url": "meta.link", "source": "meta.corpus", "title": "a.b", "lang": ""}
    (found,) = read_documents(run_files(_write(tmp_path / "a.jsonl", row), fields=fields).output)
    assert (found.text, found.url, found.source, found.title) == (EN, "http://e.com/x", "wiki", "Dotted")


def test_licence_and_language_of_the_whole_source_are_for_rows_that_state_none(tmp_path: Path, run_files):
    path = _write(tmp_path / "a.jsonl", {"text": EN, "license": "MIT", "lang": "en"}, {"text": ZH})
    context = run_files(path, licence="CC0-1.0", lang="yue")
    assert {(one.licence, one.lang) for one in read_documents(context.output)} == {("MIT", "en"), ("CC0-1.0", "yue")}


MALFORMED = [
    b"{",
    b"[1, 2]",
    b'"text"',
    b"null",
    b'{"text": "\xff"}',
    b"[" * 100_000,
    b'{"text": ' + b"9" * 5000 + b"}",
    b'{"text": 5}',
    b'{"text": ["a"]}',
    b'{"text": true}',
]


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_row_is_in_the_ledger_with_its_number_and_the_next_is_read(tmp_path: Path, run_files, line: bytes):
    context = run_files(_write(tmp_path / "a.jsonl", {"text": EN}, line, {"text": ZH}))
    assert _texts(context) == {EN, ZH}
    ((rule, place, value),) = _drops(context)
    assert (rule, place) == ("malformed", "a.jsonl#2")
    assert value
    assert read_json(context.output / "summary.json")["read"] == 3


def test_a_row_without_text_is_in_the_ledger(tmp_path: Path, run_files):
    context = run_files(_write(tmp_path / "a.jsonl", {"text": EN}, {"text": " \n"}, {"text": None}, {"other": 1}))
    assert [(rule, place) for rule, place, _ in _drops(context)] == [("no_text", f"a.jsonl#{n}") for n in (2, 3, 4)]


def test_a_row_without_end_is_dropped_and_costs_no_memory(tmp_path: Path, run_files):
    path = _write(tmp_path / "a.jsonl", {"text": EN}, b'{"text": "' + b"x" * 5_000_000 + b'"}', {"text": ZH})
    context = run_files(path, max_row_bytes=1000)
    assert _texts(context) == {EN, ZH}
    assert _drops(context) == [("row_bytes", "a.jsonl#2", "5000013")]


def test_half_a_surrogate_pair_is_replaced_and_too_many_faults_drop_the_row(tmp_path: Path, run_files):
    good, bad = b'{"text": "' + EN.encode() * 2 + b'\\ud83d"}', b'{"text": "\\ud83d\\ud83d abc"}'
    context = run_files(_write(tmp_path / "a.jsonl", good, bad))
    assert _texts(context) == {f"{EN}{EN}\ufffd"}
    assert [rule for rule, _, _ in _drops(context)] == ["encoding"]


def test_the_same_row_twice_is_one_document_and_one_ledger_row(tmp_path: Path, run_files):
    row = {"text": EN, "url": "http://e.com/"}
    context = run_files(_write(tmp_path / "a.jsonl", row, row, {**row, "opt_out": "noai"}))
    (kept,) = read_documents(context.output)
    assert kept.opt_out == "noai"
    assert _drops(context) == [("repeated", "http://e.com/", "3")] * 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson.zst", "a.json", "a.parquet"])
def test_every_packing_gives_the_same_texts(tmp_path: Path, run_files, name: str):
    table = [{"text": f"{EN} {number}", "meta": {"n": number}} for number in range(200)]
    plain = "".join(json.dumps(row) + "\n" for row in table).encode()
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(table), path, row_group_size=30)
    elif name.endswith("zst"):
        path.write_bytes(pa.compress(plain, codec="zstd", asbytes=True))
    else:
        path.write_bytes(gzip.compress(plain) if name.endswith("gz") else plain)
    assert _texts(run_files(path)) == {row["text"] for row in table}


def test_dates_and_bad_strings_of_parquet_are_taken_as_they_are(tmp_path: Path, run_files):
    raw = pa.array([EN.encode(), b"\xff\xfe", ZH.encode()], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"text": text, "date": pa.array([date(2020, 1, 2)] * 3)}), tmp_path / "a.parquet")
    context = run_files(tmp_path / "a.parquet")
    assert {(one.text, one.date) for one in read_documents(context.output)} == {(EN, "2020-01-02"), (ZH, "2020-01-02")}
    assert [(rule, place) for rule, place, _ in _drops(context)] == [("malformed", "a.parquet#2")]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("file", {("a.txt#1", "one\ntwo\n\n\nthree")}),
        ("paragraph", {("a.txt#1", "one\ntwo"), ("a.txt#5", "three")}),
        ("line", {("a.txt#1", "one"), ("a.txt#2", "two"), ("a.txt#5", "three")}),
    ],
)
def test_a_text_file_is_split_as_told(tmp_path: Path, run_files, split: str, expected):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    context = run_files(tmp_path / "a.txt", split=split)
    assert {(document.url, document.text) for document in read_documents(context.output)} == expected


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "utf-16-be-bom"])
@pytest.mark.parametrize("split", ["file", "line"])
def test_text_files_are_read_in_their_own_encoding(tmp_path: Path, run_files, codec: str, split: str):
    lines = [ZH, "天气很好，我们一起去公园散步吧。"]
    if codec == "big5":
        lines = ["這是一個很長的中文句子，說明這裡的文字是中文。", "天氣很好，我們一起去公園散步吧。"]
    content = "\n".join(lines)
    raw = b"\xfe\xff" + content.encode("utf-16-be") if codec.endswith("-bom") else content.encode(codec)
    (tmp_path / "a.txt").write_bytes(raw)
    context = run_files(tmp_path / "a.txt", split=split)
    assert _texts(context) == ({content} if split == "file" else set(lines))


def test_pieces_runs_waves_and_the_order_of_paths_do_not_show_in_the_result(
    tmp_path: Path, run_files, monkeypatch: pytest.MonkeyPatch
):
    draw = random.Random(1)
    files = [
        _write(tmp_path / name, *({"text": f"{EN} {number} {'x' * draw.randrange(300)}"} for number in range(60)))
        for name in ("a.jsonl", "b.jsonl")
    ]
    with (tmp_path / "b.jsonl").open("ab") as file:
        file.write(b'broken\n\n{"text": "no line end behind this"}')
    whole = _digest(run_files(*files, place="whole").output)
    monkeypatch.setattr(pieces, "_RUN_ROWS", 7)
    plan = pieces._pieces
    for size in (700, 9_001):
        monkeypatch.setattr(
            pieces, "_pieces", lambda ctx, sources, _, work, wave, size=size: plan(ctx, sources, size, work, wave)
        )
        assert _digest(run_files(*reversed(files), place=f"by {size}", wave_pieces=3).output) == whole


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_lines_are_counted_where_they_begin(tmp_path: Path, size: int):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"a\n\nbb\n" + b"c" * 100 + b"\nlast")
    (source,) = find_sources([str(path)], "files")
    ranges = [(begin, min(begin + size, source.size)) for begin in range(0, source.size, size)]
    assert sum(rows.count_lines(source, *one) for one in ranges) == 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 13, 50, 1000])
def test_pieces_of_any_size_give_every_row_once_with_its_number(tmp_path: Path, size: int):
    path = _write(tmp_path / "a.jsonl", {"a": 1}, {"b": 22}, b"", {"c": "x" * 100}, {"d": 4})
    (source,) = find_sources([str(path)], "files")
    found, before = [], 0
    for begin in range(0, source.size, size):
        end = min(begin + size, source.size)
        found += rows.read_rows(rows.Piece(source, begin, end, before), frozenset(), "file", 1000)
        before += rows.count_lines(source, begin, end)
    assert [(row.number, *row.values) for row in found] == [(1, "a"), (2, "b"), (4, "c"), (5, "d")]


def test_where_files_lie_and_when_they_were_written_does_not_show(tmp_path: Path, run_files):
    first = run_files(_write(tmp_path / "x/one/a.jsonl", {"text": EN}).parent.parent, place="first")
    second = run_files(_write(tmp_path / "y/z/one/a.jsonl", {"text": EN}).parent.parent, place="second")
    assert _digest(first.output) == _digest(second.output)
    assert [document.url for document in read_documents(first.output)] == ["one/a.jsonl#1"]


def test_a_stopped_step_goes_on_behind_what_is_done(tmp_path: Path, run_files, monkeypatch: pytest.MonkeyPatch):
    files = [_write(tmp_path / f"{name}.jsonl", {"text": f"{EN} {name}"}) for name in "abc"]
    settings = {"paths": tuple(map(str, files)), "wave_pieces": 1}
    whole = _digest(run_files(*files, place="whole").output)
    monkeypatch.setattr(pieces, "_MOST_PIECES", 1)
    context = local_context("ingest_files", tmp_path / "stopped")
    made: list[str] = []
    make = pieces.make_documents

    def make_one(task):
        made.append(task.pieces[0].source.name)
        if len(made) == 2:
            raise Preempted("stopped", "", "")
        return make(task)

    monkeypatch.setattr(pieces, "make_documents", make_one)
    with pytest.raises(Preempted):
        step.ingest_files(context, IngestFilesConfig(**settings))
    assert list(context.output.iterdir()) == []
    monkeypatch.setattr(pieces, "make_documents", make)
    read: list[str] = []
    read_rows = pieces.read_rows
    monkeypatch.setattr(
        pieces, "read_rows", lambda piece, *more: read.append(piece.source.name) or read_rows(piece, *more)
    )
    step.ingest_files(context, IngestFilesConfig(**settings))
    assert read == ["b.jsonl", "c.jsonl"]
    assert _digest(context.output) == whole


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 1000)[:-20]),
        ("a.jsonl.gz", b"no gzip"),
        ("a.jsonl.zst", b"no zstd at all"),
        ("a.parquet", b"PAR1 no parquet PAR1"),
        ("a.parquet", b""),
        ("a.json", b'[\n{"text": "x"}\n]'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, run_files, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StepError, match=name) as failure:
        run_files(tmp_path / name)
    assert failure.value.fix


def test_a_text_in_another_field_is_told_by_name(tmp_path: Path, run_files):
    with pytest.raises(StepError, match="Rows have body, url, not text") as failure:
        run_files(_write(tmp_path / "a.jsonl", {"body": EN, "url": "x"}))
    assert "ingest_files.fields" in failure.value.fix


def test_a_path_that_names_nothing_is_refused(tmp_path: Path, run_files):
    for path in (tmp_path / "none.jsonl", tmp_path / "*.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="names no file"):
            run_files(path)
    with pytest.raises(ConfigError, match="No input"):
        run_files()


def test_files_that_changed_since_the_plan_are_refused(tmp_path: Path, run_files):
    path = _write(tmp_path / "a.jsonl", {"text": EN})
    planned = fingerprint([str(path)], "files")
    run_files(path, fingerprint=planned, place="same")
    _write(path, {"text": ZH})
    assert fingerprint([str(path)], "files") != planned
    with pytest.raises(StepError, match="changed"):
        run_files(path, fingerprint=planned)


def test_a_fingerprint_is_of_names_and_contents_alone(tmp_path: Path):
    for folder in ("x", "y"):
        for name in ("a.jsonl", "b.txt", ".hidden.txt", "other.bin"):
            _write(tmp_path / folder / name, {"text": EN})
    prints = {fingerprint([str(tmp_path / folder)], "files") for folder in ("x", "y")}
    prints.add(fingerprint([str(tmp_path / "x" / "*.txt"), str(tmp_path / "y" / "a.jsonl")], "files"))
    assert len(prints) == 1
    (tmp_path / "x" / "b.txt").rename(tmp_path / "x" / "c.txt")
    assert fingerprint([str(tmp_path / "x")], "files") not in prints


def test_files_in_any_fsspec_store_are_read(run_files):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/corpus/a.jsonl", json.dumps({"text": EN}).encode())
    store.pipe("/corpus/deep/b.txt.gz", gzip.compress(ZH.encode()))
    context = run_files("memory://corpus")
    assert {(one.url, one.text) for one in read_documents(context.output)} == {
        ("a.jsonl#1", EN),
        ("deep/b.txt.gz#1", ZH),
    }
    assert fingerprint(["memory://corpus/*.jsonl"], "files") == fingerprint(["memory://corpus/a.jsonl"], "files")


def test_a_store_nobody_knows_is_refused(run_files):
    with pytest.raises(ConfigError, match="no known kind"):
        run_files("klingon://corpus/a.jsonl")


@pytest.mark.parametrize(
    "settings",
    [
        {"split": "word"},
        {"fields": {"texts": "x"}},
        {"lang": "English!"},
        {"shards": 0},
        {"source": ""},
        {"max_replaced_share": 2.0},
        {"piece_mib": 0},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=f"ingest_files.{next(iter(settings))}"):
        IngestFilesConfig(**settings)
