"""Repeated lines and shared passages go; what stands between them stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from dedup_help import run
from made_texts import make_document, make_text

from components.dedup.config import DedupConfig
from components.documents import Document, read_documents, read_dropped

Write = Callable[..., Path]
LINE = {
    "en": "Subscribe to our weekly letter and never miss a story again!",
    "zh": "本站所有文章均来自网络，版权归原作者所有，请勿转载。",
}


def texts_of(folder: Path) -> dict[str, str]:
    return {document.url: document.text for document in read_documents(folder / "output")}


def pages(lang: str, count: int, host: str, line: str) -> list[Document]:
    made = []
    for number in range(count):
        first, second = make_text(lang, 2 * number, 200), make_text(lang, 2 * number + 1, 200)
        made.append(make_document(f"https://{host}/{number}", f"{first}\n{line}\n\n\n{second}", lang))
    return made


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_line_on_many_pages_of_a_host_is_cut_from_all_of_them(tmp_path: Path, write: Write, lang: str) -> None:
    documents = pages(lang, 6, "a.example", LINE[lang])
    metrics = run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=5))
    found = texts_of(tmp_path / "run")
    for one in documents:
        assert found[one.url] == one.text.replace(f"{LINE[lang]}\n\n\n", "\n").strip()
    assert (metrics["cut_documents"], metrics["cut_lines"]) == (6, 6)
    assert metrics["cut_chars"] == 6 * (len(LINE[lang]) + 1)


def test_a_line_on_as_many_pages_as_are_allowed_stays(tmp_path: Path, write: Write) -> None:
    documents = pages("en", 5, "a.example", LINE["en"])
    assert run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=5))["cut_lines"] == 0


def test_lines_of_several_hosts_count_for_the_corpus_alone(tmp_path: Path, write: Write) -> None:
    documents = [*pages("en", 4, "a.example", LINE["en"]), *pages("en", 8, "b.example", LINE["en"])[4:]]
    config = DedupConfig(host_line_documents=5, line_documents=7)
    assert run(tmp_path / "run", write(documents), config)["cut_lines"] == 8
    assert (
        run(tmp_path / "off", write(documents), DedupConfig(host_line_documents=5, line_documents=0))["cut_lines"] == 0
    )


def test_case_width_and_marks_do_not_make_another_line(tmp_path: Path, write: Write) -> None:
    documents = [
        *pages("en", 3, "a.example", LINE["en"].upper()),
        *pages("en", 6, "a.example", f"*** {LINE['en'][:-1]} ***")[3:],
    ]
    assert run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=5))["cut_lines"] == 6


def test_short_lines_stay_however_many(tmp_path: Path, write: Write) -> None:
    documents = pages("en", 9, "a.example", "Hello, how are you?")
    assert run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=2))["cut_lines"] == 0


@pytest.mark.parametrize(("lang", "size"), [("en", 500), ("zh", 220)])
def test_a_long_passage_stays_in_the_best_document_alone(tmp_path: Path, write: Write, lang: str, size: int) -> None:
    passage = make_text(lang, 1, size)
    documents = [
        make_document(
            url, make_text(lang, seed, 3 * size) + "\n" + passage + "\n" + make_text(lang, seed + 1, length), lang
        )
        for url, seed, length in (("a", 10, 3 * size), ("best", 20, 4 * size), ("c", 30, 2 * size))
    ]
    metrics = run(tmp_path / "run", write(documents))
    found = texts_of(tmp_path / "run")
    assert metrics["cut_passages"] == 2
    assert found["best"] == next(one.text for one in documents if one.url == "best")
    for document in documents:
        if document.url != "best":
            lost = len(document.text) - len(found[document.url])
            assert 0.6 * size < lost <= size + 2
            assert found[document.url][: 3 * size] == document.text[: 3 * size]


def test_a_short_quotation_stays_in_both(tmp_path: Path, write: Write) -> None:
    quotation = make_text("en", 1, 250)
    documents = [make_document(str(seed), f"{make_text('en', seed, 900)} {quotation}") for seed in (10, 20)]
    assert run(tmp_path / "run", write(documents))["cut_chars"] == 0


def test_what_cutting_leaves_too_short_is_dropped_with_both_figures(tmp_path: Path, write: Write) -> None:
    documents = pages("en", 6, "a.example", LINE["en"])
    documents.append(make_document("https://a.example/short", f"{LINE['en']}\nShort."))
    run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=5))
    (row,) = read_dropped(tmp_path / "run" / "output")
    assert (row.url, row.rule, row.value) == ("https://a.example/short", "short_after_cuts", "6")
    assert row.threshold == f"50, {len(LINE['en']) + 1} cut"


def test_the_table_of_cuts_has_a_row_for_each_document_that_lost_something(tmp_path: Path, write: Write) -> None:
    documents = pages("en", 6, "a.example", LINE["en"])
    run(tmp_path / "run", write(documents), DedupConfig(host_line_documents=5))
    rows = []
    for path in sorted((tmp_path / "run" / "output" / "cuts").glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
    assert {row["doc_id"] for row in rows} == {document.doc_id for document in documents}
    assert {(row["lines"], row["line_chars"], row["passages"]) for row in rows} == {(1, len(LINE["en"]) + 1, 0)}


def test_marked_look_alikes_are_not_cut_for_being_alike(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 1500)
    documents = [make_document("a", text), make_document("b", text + " and more words at the end")]
    metrics = run(tmp_path / "run", write(documents), DedupConfig(drop_near=False))
    assert (metrics["kept"], metrics["cut_chars"]) == (2, 0)
