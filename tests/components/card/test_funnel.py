"""The funnel reads every step's summary, and finds where counts do not add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.card.funnel import Stage, faults_of, read_stage
from components.crawl.frontier import Frontier
from components.publish import publish_json


def summary(folder: Path, **values: object) -> Path:
    (folder / "documents").mkdir(parents=True)
    whole = {"read": 5, "kept": 3, "dropped": {"b": 1, "a": 1}, "languages": {"en": 1, "zh": 2}, "chars": 70} | values
    publish_json(folder / "summary.json", whole)
    return folder


def test_a_step_over_documents_is_read(tmp_path: Path) -> None:
    stage = read_stage("clean", summary(tmp_path))
    assert stage == Stage("clean", "documents", 5, 3, {"a": 1, "b": 1}, 3, 70, {"zh": 2, "en": 1})
    assert faults_of([stage]) == []


def test_a_step_that_lost_something_is_found(tmp_path: Path) -> None:
    stage = read_stage("clean", summary(tmp_path, kept=2))
    assert stage is not None
    assert faults_of([stage]) == ["clean read 5 documents, but kept 2 and dropped 2"]


def test_a_step_that_reads_less_than_was_handed_on_is_found(tmp_path: Path) -> None:
    stages = [read_stage("a", summary(tmp_path / "a")), read_stage("b", summary(tmp_path / "b"))]
    assert faults_of([stage for stage in stages if stage]) == ["a handed on 3 documents, but b read 5"]


def test_an_artifact_without_counts_is_no_stage(tmp_path: Path) -> None:
    assert read_stage("site", tmp_path) is None
    publish_json(tmp_path / "summary.json", {"pages": 12, "host": "a.test"})
    assert read_stage("site", tmp_path) is None


@pytest.mark.parametrize("kind", ["page", "sitemap"])
def test_a_crawl_hands_on_every_answer_to_a_page_request(tmp_path: Path, kind: str) -> None:
    from components.crawl.frontier import End, Found, Position

    frontier = Frontier(tmp_path / "work" / "frontier.sqlite")
    frontier.add([Found("http://a.test/1", 0, kind=kind), Found("http://a.test/2", 0), Found("http://a.test/3", 0)])
    ends = {
        "http://a.test/1": End("fetched", status=200, position=Position("pages-00001.warc.gz", 0, 9)),
        "http://a.test/2": End("failed", "status 404", status=404, position=Position("pages-00001.warc.gz", 9, 18)),
        "http://a.test/3": End("failed", "timeout"),
    }
    for entry in frontier.take("a.test", 3, 9, 0.0):
        frontier.end(entry, ends[entry.url])
    frontier.copy_to(tmp_path / "frontier.sqlite")
    publish_json(tmp_path / "summary.json", {"pages": frontier.summary("page")})
    frontier.close()
    stage = read_stage("crawl", tmp_path)
    assert stage is not None
    assert stage.handed == (2 if kind == "page" else 1)
    assert stage.dropped == {"failed: status 404": 1, "failed: timeout": 1}
    assert faults_of([stage]) == []
