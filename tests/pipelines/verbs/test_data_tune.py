"""`data tune` says before the run what the run will do."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_help import Headwater, artifact, corpus, data  # noqa: F401  (fixtures)

from components.clean.config import CleanConfig
from components.clean.step import clean
from components.context import local_context
from components.documents import Dropped, ShardWriter, read_doc_ids, read_documents, read_dropped, shard_paths
from components.publish import read_json
from components.score.statistics import measure_batch
from pipelines.config import build, compose, load_settings
from pipelines.engine.store import Store
from pipelines.verbs.data_chain import chain_of
from pipelines.verbs.data_tune import case_of, compared, override_of, with_value


def tuned(data: Headwater, *words: str) -> dict:
    return json.loads(data("tune", *words, "--json"))


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("min_chars", "600"),
        ("max_digit_share", "0.01"),
        ("zh.min_chars", "300"),
        ("min_chars", "off"),
        ("max_documents_per_host", "20"),
        ("min_quality", "0.9999"),
    ],
)
def test_it_tells_what_the_step_then_does(data: Headwater, corpus: Path, tmp_path: Path, rule: str, value: str) -> None:
    ctx = local_context("clean", tmp_path)
    scored, liked = artifact(corpus, "score"), artifact(corpus, "quality")
    clean(ctx, with_value(CleanConfig(), rule, value), documents=scored, quality=liked)
    kept = {document.doc_id.hex() for document in read_documents(ctx.output)}
    before = {document.doc_id.hex() for document in read_documents(artifact(corpus, "clean"))}
    found = tuned(data, rule, value, "--num", "1000")
    assert found["after"]["documents"] == read_json(ctx.output / "summary.json")["kept"]
    assert {one["doc_id"] for one in found["newly_dropped"]} == before - kept
    assert {one["doc_id"] for one in found["newly_kept"]} == kept - before
    assert kept != before


def test_the_present_decisions_are_those_of_the_run(data: Headwater, corpus: Path) -> None:
    summary = read_json(artifact(corpus, "clean") / "summary.json")
    found = tuned(data, "min_chars", "600")
    assert found["read"]["documents"] == summary["read"]
    assert found["before"]["documents"] == summary["kept"]
    assert sum(one["before"]["documents"] for one in found["languages"].values()) == summary["kept"]


def test_without_a_value_it_shows_what_the_rule_drops_all_alone(data: Headwater, corpus: Path) -> None:
    found = tuned(data, "min_chars")
    ledger = {row.doc_id.hex() for row in read_dropped(artifact(corpus, "clean")) if row.rule == "min_chars"}
    assert {one["doc_id"] for one in found["newly_dropped"]} <= ledger
    assert found["override"] == ""


def test_samples_carry_the_number_that_decided_and_the_beginning_of_the_text(data: Headwater, corpus: Path) -> None:
    texts = {document.doc_id.hex(): document.text for document in read_documents(artifact(corpus, "score"))}
    for sample in tuned(data, "max_digit_share", "0.01")["newly_dropped"]:
        text = texts[sample["doc_id"]]
        assert sample["text"] == text[:200]
        assert sample["value"] == pytest.approx(float(measure_batch([text], None)["digit_share"][0]), abs=1e-6)


def test_the_histogram_counts_every_document_once(data: Headwater, corpus: Path) -> None:
    found = tuned(data, "min_chars")
    assert sum(one["documents"] for one in found["histogram"]) == found["read"]["documents"]
    assert found["histogram"][0]["from"] == min(len(one.text) for one in read_documents(artifact(corpus, "score")))


def test_thresholds_are_shown_as_each_profile_has_them(data: Headwater) -> None:
    shown = {one["profile"]: (one["before"], one["after"]) for one in tuned(data, "min_chars", "600")["thresholds"]}
    assert shown["en"] == (100, 600)
    assert shown["zh"] == (40, 240)
    assert "en, other 100 -> 600; ja, zh 40 -> 240" in data("tune", "min_chars", "600")


def test_nothing_is_changed(data: Headwater, corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    data("tune", "min_chars", "600")
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_all_rules_are_listed_with_what_they_are_against(data: Headwater) -> None:
    rules = json.loads(data("tune", "--json"))
    assert rules["min_chars"]["thresholds"]["zh"] == 40
    assert "min_chars" in data("tune")


def test_an_unknown_rule_is_refused_with_the_nearest(data: Headwater) -> None:
    assert "did you mean min_chars?" in data("tune", "min_char", "5", code=2)
    assert "there is no rule zz.min_chars" in data("tune", "zz.min_chars", "5", code=2)


@pytest.mark.parametrize("value", ["many", "-1", "nan"])
def test_a_value_that_is_no_threshold_is_refused(data: Headwater, value: str) -> None:
    assert data("tune", "max_digit_share", "--", value, code=2).startswith("headwater: ")


@pytest.mark.parametrize(
    ("rule", "value"), [("min_chars", "600"), ("max_digit_share", "0.3"), ("zh.min_chars", "50"), ("min_chars", "off")]
)
def test_the_override_it_prints_sets_what_it_tried(rule: str, value: str) -> None:
    override = override_of(rule, value).strip("'")
    composed = compose([override])["clean"]
    assert isinstance(composed, dict)
    assert build(CleanConfig, composed, "clean.") == with_value(CleanConfig(), rule, value)


def test_who_opted_out_stays_out_under_any_threshold(corpus: Path, tmp_path: Path) -> None:
    case = case_of(chain_of(Store(corpus)), load_settings([f"store={corpus}", "preset=micro"]))
    out = next(read_documents(artifact(corpus, "clean")))
    for index, path in enumerate(shard_paths(case.scored)):
        with ShardWriter(tmp_path, index) as writer:
            if out.doc_id in read_doc_ids(path):
                writer.drop(Dropped(out.doc_id, out.url, "opt_out", "a.test", "none"))
    before = compared(case, case.config, case.config, 1)
    found = compared(replace(case, judged=tmp_path), case.config, with_value(case.config, "min_chars", "1"), 1000)
    assert found.before.documents.total() == before.before.documents.total() - 1
    assert out.doc_id not in [doc_id for doc_id, _ in found.kept]
