"""`data why` walks a document from its WARC record to the steps that saw it, and back."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_help import STEPS, Headwater, artifact, corpus, data, own_corpus  # noqa: F401  (fixtures)

from components.crawl.warc_read import open_record
from components.documents import (
    Document,
    Outcome,
    ShardWriter,
    iter_shard,
    read_documents,
    read_dropped,
    shard_paths,
    write_shard,
)
from pipelines.engine.store import Store
from pipelines.verbs.data_chain import chain_of
from pipelines.verbs.data_lookup import Name
from pipelines.verbs.data_trace import _page_rows, trace

WALKED = 20
PLACE = ("url", "status", "warc_file", "warc_offset")


def way(data: Headwater, document: str) -> list[dict]:
    (found,) = json.loads(data("why", document, "--json"))["documents"]
    return found["stations"]


@pytest.fixture
def trained(corpus: Path) -> Document:
    """A document of the training split: the longest."""
    return max(read_documents(artifact(corpus, "dedup")), key=lambda document: len(document.text))


def test_the_whole_way_of_a_document_is_told(data: Headwater, trained: Document) -> None:
    stations = way(data, trained.url)
    assert [(one["step"], one["state"]) for one in stations] == [
        ("crawl", "fetched"),
        ("extract", "kept"),
        ("score", "kept"),
        ("score", "measured"),
        ("quality", "measured"),
        ("clean", "kept"),
        ("dedup", "kept"),
        ("tokens", "encoded"),
        ("pack", "packed"),
        ("pretrain", "trained"),
    ]
    assert stations[3]["statistics"]["chars"] == len(trained.text)
    text = data("why", trained.url)
    assert f"{trained.url}  {trained.doc_id.hex()}" in text
    assert "status 200, text/html" in text


def test_the_warc_record_it_names_is_the_page(data: Headwater, corpus: Path, trained: Document) -> None:
    fetched = way(data, trained.url)[0]
    page = open_record(artifact(corpus, "crawl") / "warc" / fetched["warc_file"], fetched["warc_offset"])
    assert (page.url, page.status) == (trained.url, 200)


def test_the_rows_it_names_hold_the_document(data: Headwater, corpus: Path, trained: Document) -> None:
    kept = next(one for one in way(data, trained.url) if one["step"] == "dedup")
    rows = list(iter_shard(artifact(corpus, "dedup") / "documents" / kept["shard"]))
    assert rows[kept["row"]].doc_id == trained.doc_id


def test_the_steps_it_names_are_those_whose_batches_hold_the_document(data: Headwater, trained: Document) -> None:
    steps = next(one["steps"] for one in way(data, trained.url) if one["state"] == "trained")
    seen = []
    for step in range(WALKED):
        batch = json.loads(data("why", "--step", str(step), "--json"))["documents"]
        seen += [step for one in batch if one["doc_id"] == trained.doc_id.hex()]
    assert seen
    assert [step for step in steps if step < WALKED] == seen


def test_a_step_lists_its_documents_with_their_urls(data: Headwater, corpus: Path) -> None:
    urls = {document.doc_id.hex(): document.url for document in read_documents(artifact(corpus, "dedup"))}
    batch = json.loads(data("why", "--step", "5", "--json"))["documents"]
    assert batch
    assert all(one["url"] == urls[one["doc_id"]] for one in batch)
    assert sorted({visit["sample"] for one in batch for visit in one["visits"]}) == list(range(4))
    assert "step 5 of pretrain" in data("why", "--step", "5")


def test_a_dropped_document_ends_at_the_rule_that_did_it(data: Headwater, corpus: Path) -> None:
    row = next(row for row in read_dropped(artifact(corpus, "clean")) if row.rule == "min_chars")
    last = way(data, row.doc_id.hex())[-1]
    assert (last["step"], last["state"], last["rule"], last["value"]) == ("clean", "dropped", "min_chars", row.value)


def test_a_near_duplicate_names_the_one_that_stays(data: Headwater, corpus: Path) -> None:
    row = next(row for row in read_dropped(artifact(corpus, "dedup")) if row.rule == "near_duplicate")
    last = way(data, row.url)[-1]
    assert (last["step"], last["rule"]) == ("dedup", "near_duplicate")
    assert "http://sample.headwater.test/" in last["threshold"]


def test_a_page_that_was_never_fetched_is_told_of_by_the_frontier(data: Headwater) -> None:
    (station,) = way(data, "http://sample.headwater.test/private/")
    assert (station["step"], station["state"], station["reason"]) == ("crawl", "refused", "robots")
    assert "never became a document" in data("why", "http://sample.headwater.test/private/")


def test_a_url_is_found_in_any_spelling(data: Headwater, trained: Document) -> None:
    spelled = trained.url.replace("http://sample", "HTTP://SAMPLE") + "#part"
    assert way(data, spelled) == way(data, trained.url) == way(data, trained.url.removeprefix("http://"))


def test_an_unknown_url_is_refused_with_the_nearest_ones(data: Headwater, trained: Document) -> None:
    told = data("why", trained.url[:-6] + ".html", code=2)
    assert "nothing is known of" in told
    assert trained.url.rpartition("/")[0] in told.partition("nearest:")[2]


@pytest.mark.parametrize("words", [(), ("http://a/", "--step", "1")])
def test_a_document_or_a_step_is_asked_for_not_both(data: Headwater, words: tuple[str, ...]) -> None:
    assert "why needs a document or a step" in data("why", *words, code=2)


def test_a_step_beyond_the_last_is_refused(data: Headwater) -> None:
    assert f"give 0 to {STEPS - 1}" in data("why", "--step", str(STEPS), code=2)


def test_an_id_that_nothing_begins_with_is_refused(data: Headwater) -> None:
    assert "nothing is known of 00000000" in data("why", "00000000", code=2)


def test_a_document_that_vanished_between_two_steps_is_called_so(own_corpus: Path, trained: Document) -> None:
    chain = chain_of(Store(own_corpus))
    path = next(path for path in shard_paths(artifact(own_corpus, "dedup")) if trained in list(iter_shard(path)))
    rest = [document for document in iter_shard(path) if document != trained]
    with ShardWriter(path.parent.parent / "again", int(path.stem[-5:])) as writer:
        for document in rest:
            writer.keep(document)
    again = path.parent.parent / "again" / "documents" / path.name
    path.write_bytes(again.read_bytes())
    stations = list(trace(chain, Name(trained.doc_id, trained.url)))
    assert (stations[-1].step, stations[-1].state) == ("dedup", "vanished")


def test_a_page_of_an_archive_from_elsewhere_is_found_by_reading_it(
    corpus: Path, tmp_path: Path, trained: Document
) -> None:
    shutil.copytree(artifact(corpus, "crawl") / "warc", tmp_path / "warc")
    link = chain_of(Store(corpus)).links["crawl"]
    (station,) = _page_rows(tmp_path, link, trained.url)
    (known,) = _page_rows(artifact(corpus, "crawl"), link, trained.url)
    assert station.state == "recorded"
    assert [station.facts[key] for key in PLACE] == [known.facts[key] for key in PLACE]


def test_a_step_that_cut_something_out_of_the_text_says_how_much(own_corpus: Path, trained: Document) -> None:
    chain = chain_of(Store(own_corpus))
    path = next(path for path in shard_paths(artifact(own_corpus, "dedup")) if trained in list(iter_shard(path)))
    documents = [replace(one, text=one.text[:-7]) if one == trained else one for one in iter_shard(path)]
    write_shard(artifact(own_corpus, "dedup"), int(path.stem[-5:]), Outcome(documents))
    texts = {station.step: station.text for station in trace(chain, Name(trained.doc_id, trained.url))}
    assert texts["dedup"].endswith("7 characters cut out here")
    assert "cut out" not in texts["clean"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"seed": "x", "steps": 1}', "not json"])
def test_a_damaged_order_is_told_in_a_sentence(data: Headwater, own_corpus: Path, text: str) -> None:
    path = artifact(own_corpus, "pretrain") / "order.json"
    path.write_text(text.ljust(path.stat().st_size))
    assert "order.json of pretrain is damaged" in data("why", "--step", "1", store=own_corpus, code=1, told=True)
