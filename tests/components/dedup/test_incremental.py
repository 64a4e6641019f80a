"""A run that goes on from an earlier one gives the bytes of one run over everything, however the corpus came in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from dedup_help import bytes_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from made_texts import edited, make_document, make_text, write_artifact

from components.dedup.config import DedupConfig
from components.documents import Document, read_documents
from components.errors import StepError
from components.sketch.config import SketchConfig
from components.sketch.step import sketch

Write = Callable[..., Path]
CONFIG = DedupConfig(keep_memory=True, host_line_documents=3, line_documents=5, min_chars_left=30)
BOILERPLATE = "All rights are reserved by the makers of this page, whoever they may be."


def corpus() -> list[Document]:
    """Copies, look-alikes, versions of one URL, shared passages and repeated lines, in two languages."""
    documents = []
    for lang in ("en", "zh"):
        shared = make_text(lang, 999, 500)
        for seed in range(8):
            url, text = f"https://{lang}.example/{seed}", make_text(lang, seed, 700)
            documents.append(make_document(url, text if seed % 4 else f"{text}\n{BOILERPLATE}", lang))
            if seed % 2 == 0:
                documents.append(make_document(f"{url}/copy", text, lang))
                documents.append(make_document(f"{url}/edited", edited(text, 0.02, seed), lang))
            if seed % 3 == 0:
                documents.append(make_document(f"http://www.{lang}.example/{seed}/", text[:650], lang))
                documents.append(make_document(f"{url}/long", make_text(lang, 50 + seed, 300 + seed) + shared, lang))
            documents.append(make_document(f"{url}/line", f"{make_text(lang, 70 + seed, 200)}\n{BOILERPLATE}", lang))
    return documents


CORPUS = corpus()


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one run over the whole corpus writes."""
    folder = tmp_path_factory.mktemp("at-once")
    metrics = run(folder / "run", write_artifact(folder / "documents", CORPUS), CONFIG)
    assert all(metrics[name] > 0 for name in ("url", "exact", "near", "cut_lines", "cut_passages"))
    return bytes_of(folder / "run" / "output")


TURNS = st.lists(st.integers(0, 2), min_size=len(CORPUS), max_size=len(CORPUS))


def test_every_third_document_in_a_delivery_of_its_own_gives_the_bytes_of_one_run(at_once: dict[str, bytes]) -> None:
    deliver([number % 3 for number in range(len(CORPUS))], at_once)


@pytest.mark.slow
@settings(max_examples=20)
@given(TURNS)
def test_three_deliveries_in_any_split_give_the_bytes_of_one(at_once: dict[str, bytes], turns: list[int]) -> None:
    deliver(turns, at_once)


def deliver(turns: list[int], at_once: dict[str, bytes]) -> None:
    """Runs over the corpus in three deliveries, each going on from the one before."""
    with tempfile.TemporaryDirectory() as name:
        folder, previous = Path(name), None
        for turn in range(3):
            mine = [document for document, at in zip(CORPUS, turns, strict=True) if at == turn]
            documents = write_artifact(folder / f"documents-{turn}", mine)
            if mine or previous:
                run(folder / f"run-{turn}", documents, CONFIG, previous)
                previous = folder / f"run-{turn}" / "output"
        assert previous is not None
        assert bytes_of(previous) == at_once


def test_a_better_document_that_comes_later_wins(tmp_path: Path, write: Write) -> None:
    text = make_text("en", 1, 600)
    run(tmp_path / "first", write([make_document("old", text)]), CONFIG)
    run(tmp_path / "next", write([make_document("new", text + " with more")]), CONFIG, tmp_path / "first" / "output")
    assert [document.url for document in read_documents(tmp_path / "next" / "output")] == ["new"]


def test_a_document_that_comes_again_counts_once(tmp_path: Path, write: Write) -> None:
    documents = write([make_document("a", make_text("en", 1, 600)), make_document("b", make_text("en", 2, 600))])
    run(tmp_path / "first", documents, CONFIG)
    metrics = run(tmp_path / "next", documents, CONFIG, tmp_path / "first" / "output")
    assert (metrics["read"], metrics["kept"]) == (2, 2)
    assert bytes_of(tmp_path / "next" / "output") == bytes_of(tmp_path / "first" / "output")


def test_an_artifact_without_memory_is_refused(tmp_path: Path, write: Write) -> None:
    documents = write([make_document("a", make_text("en", 1, 600))])
    run(tmp_path / "first", documents)
    with pytest.raises(StepError, match="carries no memory"):
        run(tmp_path / "next", documents, CONFIG, tmp_path / "first" / "output")


def test_an_artifact_of_other_sketches_is_refused(tmp_path: Path, write: Write) -> None:
    from components.context import local_context

    documents = write([make_document("a", make_text("en", 1, 600))])
    run(tmp_path / "first", documents, CONFIG)
    context = local_context("sketch", tmp_path / "other")
    sketch(context, SketchConfig(line_chars=99), documents)
    with pytest.raises(StepError, match="line_chars differ"):
        run(tmp_path / "next", documents, CONFIG, tmp_path / "first" / "output", sketches=context.output)


def test_another_number_of_shards_is_refused(tmp_path: Path, write: Write) -> None:
    run(tmp_path / "first", write([make_document("a", make_text("en", 1, 600))], 3), CONFIG)
    with pytest.raises(StepError, match="come in 2 shards, the earlier artifact of dedup in 3"):
        run(tmp_path / "next", write([make_document("b", "b")], 2), CONFIG, tmp_path / "first" / "output")
