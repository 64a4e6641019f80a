"""`data peek` shows documents and what was dropped, and nothing of a page can move the terminal."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpus_help import Headwater, artifact, corpus, data  # noqa: F401  (fixtures)

from components.documents import read_documents, read_dropped
from pipelines.cli import main
from pipelines.verbs.data_text import aligned, harmless, number, paragraph


def shown(data: Headwater, *words: str) -> list[dict]:
    return json.loads(data("peek", *words, "--json"))


def test_without_a_name_the_corpus_itself_is_shown(data: Headwater, corpus: Path) -> None:
    wanted = [document.doc_id.hex() for document in read_documents(artifact(corpus, "dedup"))]
    assert [one["doc_id"] for one in shown(data, "--num", "3")] == wanted[:3]
    assert f"{wanted[0]}  http://sample.headwater.test/" in data("peek", "--num", "1")


def test_the_command_line_reaches_it(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "peek", "clean", "--num", "1", "--json", f"store={corpus}", "preset=micro"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["data", "peek", "nothing", f"store={corpus}", "preset=micro"]) == 2
    assert "there is no artifact of a step nothing" in capsys.readouterr().err


def test_documents_are_chosen_by_language_and_by_text(data: Headwater) -> None:
    assert {one["lang"] for one in shown(data, "extract", "--lang", "zh", "--num", "4")} == {"zh"}
    found = shown(data, "extract", "--where", "NEWS/0001", "--num", "1")
    assert "news/0001" in found[0]["url"]


def test_what_a_step_dropped_is_shown_with_rule_value_threshold_and_text(data: Headwater, corpus: Path) -> None:
    row = next(row for row in read_dropped(artifact(corpus, "clean")) if row.rule == "min_chars")
    found = shown(data, "clean", "--dropped", "min_chars", "--num", "1")[0]
    assert (found["doc_id"], found["rule"]) == (row.doc_id.hex(), "min_chars")
    assert (found["value"], found["threshold"]) == (row.value, row.threshold)
    assert len(found["text"]) == int(row.value)
    assert f"dropped by min_chars: {row.value} against {row.threshold}" in data("peek", "clean", "--dropped")


def test_dropped_pages_that_never_were_documents_are_shown_too(data: Headwater) -> None:
    found = shown(data, "extract", "--dropped", "status")
    assert {one["value"] for one in found} >= {"404"}


def test_a_rule_that_dropped_nothing_is_refused_with_the_nearest(data: Headwater) -> None:
    told = data("peek", "clean", "--dropped", "min_char", code=2)
    assert "clean dropped nothing by a rule min_char" in told
    assert "did you mean min_chars?" in told


def test_an_artifact_without_documents_is_refused_with_those_that_have_some(data: Headwater) -> None:
    told = data("peek", "tokens", code=2)
    assert "the artifact of tokens holds no documents" in told
    assert "extract, score, clean, dedup" in told


def test_a_search_that_finds_nothing_says_so(data: Headwater) -> None:
    assert "no documents in language fr with 'x'" in data("peek", "--lang", "fr", "--where", "x", code=2)


def test_a_number_below_one_is_refused(data: Headwater) -> None:
    assert "--num is 0" in data("peek", "--num", "0", code=2)


def test_no_control_character_of_a_page_reaches_the_terminal() -> None:
    assert harmless("a\x1b[2J\u202eb\x07\nc") == "a\ufffd[2J\ufffdb\ufffd c"
    assert paragraph("one\x1b\ntwo three", 9) == ["one\ufffd", "two ..."]


def test_columns_line_up_although_a_hanzi_is_two_wide() -> None:
    assert list(aligned([["a", "n"], ["中文", "1"], ["b", "20"]])) == ["  a      n", "  中文   1", "  b     20"]


def test_numbers_are_grouped_or_rounded() -> None:
    assert [number(value) for value in (1234567, 0.123456, 3.0)] == ["1,234,567", "0.1235", "3"]
