"""`data forget` lists what documents and hosts touch, and enters them in the list that crawl and clean read."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
import shutil
from pathlib import Path

from corpus_help import STEPS, Headwater, artifact, corpus, data, own_corpus  # noqa: F401  (fixtures)

from components.clean.config import CleanConfig
from components.clean.step import clean
from components.context import local_context
from components.crawl.config import CrawlConfig
from components.crawl.scope import Scope
from components.crawl.warc_read import open_record
from components.dedup.clusters import KEPT
from components.documents import Document, iter_ledger, iter_shard, read_documents, read_dropped
from components.opt_outs import FILE, OptOuts, read_entries
from pipelines.verbs.data_forget import _records

TALK = "http://sample.headwater.test/talk/"


def forgotten(data: Headwater, *words: str) -> dict:
    return json.loads(data("forget", *words, "--json"))


def rows_of(found: dict, step: str) -> dict[str, list[int]]:
    return next(one["rows"] for one in found["artifacts"] if one["name"].startswith(f"{step}@"))


def longest(corpus: Path) -> Document:
    return max(read_documents(artifact(corpus, "dedup")), key=lambda document: len(document.text))


def test_every_row_of_a_page_and_all_below_it_is_listed(data: Headwater, corpus: Path) -> None:
    found = forgotten(data, TALK)
    for step in ("extract", "score", "clean", "dedup"):
        rows = rows_of(found, step)
        for folder, read in (("documents", iter_shard), ("dropped", iter_ledger)):
            for path in sorted((artifact(corpus, step) / folder).glob("*")):
                wanted = [number for number, one in enumerate(read(path)) if one.url.startswith(TALK)]
                assert rows.get(f"{folder}/{path.name}", []) == wanted


def test_records_of_the_archive_are_listed_by_their_offsets(data: Headwater, corpus: Path) -> None:
    offsets = rows_of(forgotten(data, TALK), "crawl")
    assert offsets
    for name, places in offsets.items():
        for offset in places:
            assert open_record(artifact(corpus, "crawl") / name, offset).url.startswith(TALK)


def test_token_rows_and_tables_beside_the_documents_are_listed(data: Headwater, corpus: Path) -> None:
    document = longest(corpus)
    found = forgotten(data, document.doc_id.hex())
    assert found["documents"] == [document.doc_id.hex()]
    assert sum(map(len, rows_of(found, "tokens").values())) == 1
    assert {name.partition("/")[0] for name in rows_of(found, "score")} == {"documents", "scores"}
    assert {name.partition("/")[0] for name in rows_of(found, "sketch")} == {"sketches"}


def test_the_steps_of_training_are_those_that_why_tells(data: Headwater, corpus: Path) -> None:
    doc_id = longest(corpus).doc_id.hex()
    stations = json.loads(data("why", doc_id, "--json"))["documents"][0]["stations"]
    (model,) = [one for one in forgotten(data, doc_id)["artifacts"] if one["steps"]]
    assert model["name"].startswith("pretrain@")
    assert model["steps"] == next(one["steps"] for one in stations if one["state"] == "trained")
    assert model["num_steps"] == STEPS


def test_models_made_of_one_that_read_it_are_listed_too(data: Headwater, corpus: Path) -> None:
    models = {one["name"].partition("@")[0]: one for one in forgotten(data, TALK)["artifacts"] if not one["rows"]}
    assert models["sft"]["made_of"] == models["pretrain"]["name"]
    assert "made of pretrain@" in data("forget", TALK)


def test_a_document_that_no_step_read_touches_no_model(data: Headwater, corpus: Path) -> None:
    row = next(row for row in read_dropped(artifact(corpus, "clean")) if row.rule == "min_chars")
    names = {one["name"].partition("@")[0] for one in forgotten(data, row.doc_id.hex())["artifacts"]}
    assert names == {"crawl", "extract", "score", "quality", "clean", "sketch"}


def test_a_host_stands_for_all_hosts_below_it(data: Headwater, corpus: Path) -> None:
    every = list(read_documents(artifact(corpus, "extract")))
    assert len(forgotten(data, "headwater.test")["documents"]) >= len(every)
    assert forgotten(data, "water.test")["documents"] == []


def test_nothing_is_changed_unless_told_to(data: Headwater, own_corpus: Path) -> None:
    told = data("forget", TALK, store=own_corpus)
    assert "nothing was changed" in told
    assert not (own_corpus / FILE).exists()


def test_apply_enters_the_targets_once(data: Headwater, own_corpus: Path) -> None:
    (own_corpus / FILE).write_text("# by hand\nexample.org")
    told = data("forget", "HTTP://sample.headwater.test/talk/", "Example.ORG", "--apply", store=own_corpus)
    assert "by the rule opt_out" in told
    assert read_entries(own_corpus / FILE) == ["example.org", TALK]
    assert "has them already" in data("forget", TALK, "--apply", store=own_corpus)
    assert (own_corpus / FILE).read_text() == f"# by hand\nexample.org\n{TALK}\n"


def test_the_crawler_refuses_what_was_entered(data: Headwater, own_corpus: Path) -> None:
    doc_id = longest(own_corpus).doc_id.hex()
    data("forget", TALK, doc_id, "other.example", "--apply", store=own_corpus)
    config = CrawlConfig(opt_out_file=str(own_corpus / FILE), hosts=("other.example",))
    refusals = [Scope(config).refusal(url) for url in (f"{TALK}0001.html", "http://other.example/")]
    assert refusals == ["opt-out", "opt-out"]
    assert Scope(config).refusal("http://sample.headwater.test/") == ""


def test_the_beginning_of_an_id_is_entered_in_full(data: Headwater, own_corpus: Path) -> None:
    doc_id = longest(own_corpus).doc_id
    data("forget", doc_id.hex()[:8], "--apply", store=own_corpus)
    assert read_entries(own_corpus / FILE) == [doc_id.hex()]
    assert OptOuts([doc_id.hex()]).entry_for("any", doc_id) == doc_id.hex()


def test_an_id_of_nothing_and_a_word_that_is_no_host_are_refused(data: Headwater) -> None:
    assert "0 documents have an id that begins with 00000000" in data("forget", "00000000", code=2)
    assert "no host, no URL and no id" in data("forget", "two words", code=2)


def test_what_nobody_has_met_yet_can_be_entered_too(data: Headwater, own_corpus: Path) -> None:
    assert "0 documents, 0 artifacts touched" in data("forget", "new.example", "--apply", store=own_corpus)
    assert read_entries(own_corpus / FILE) == ["new.example"]


def test_records_of_archives_from_elsewhere_are_found_by_reading_them(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact(corpus, "crawl") / "warc", tmp_path / "warc")
    opted = OptOuts([TALK])
    assert _records(tmp_path, opted, {TALK}) == _records(artifact(corpus, "crawl"), opted, set()) != {}


def test_the_step_clean_drops_what_was_entered(data: Headwater, own_corpus: Path, tmp_path: Path) -> None:
    forgotten_ids = forgotten(data, TALK)["documents"]
    data("forget", TALK, "--apply", store=own_corpus)
    ctx = local_context("clean", tmp_path / "again")
    clean(ctx, CleanConfig(), documents=artifact(own_corpus, "score"), opt_out=own_corpus / FILE)
    dropped = [row.doc_id.hex() for row in read_dropped(ctx.output) if row.rule == "opt_out"]
    scored = {document.doc_id.hex() for document in read_documents(artifact(own_corpus, "score"))}
    assert set(dropped) == set(forgotten_ids) & scored != set()


def test_copies_that_would_take_its_place_are_named(data: Headwater, corpus: Path) -> None:
    copy = next(row for row in read_dropped(artifact(corpus, "dedup")) if row.url not in row.threshold)
    stayed = copy.threshold.partition(KEPT)[2]
    (found,) = [one for one in forgotten(data, stayed)["copies"] if one["url"] == copy.url]
    assert found == {"url": copy.url, "id": copy.doc_id.hex(), "copy_of": stayed}
    assert "copies under other URLs" in data("forget", stayed)
    assert found not in forgotten(data, stayed, copy.url)["copies"]
