"""`data stats` counts what the manifests, the summaries and the card say; one witness for the other."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

import json
from pathlib import Path

from corpus_help import Headwater, artifact, corpus, data  # noqa: F401  (fixtures)

from components.documents import read_documents
from components.publish import read_json
from pipelines.engine.store import Store


def test_totals_are_the_same_in_manifests_card_and_stats(data: Headwater, corpus: Path) -> None:
    found = json.loads(data("stats", "--json"))
    card = read_json(artifact(corpus, "card") / "card.json")
    assert found["totals"] == card["totals"]
    assert found["faults"] == []
    for stage in found["funnel"]:
        made = Store(corpus).newest(stage["step"])
        assert made is not None
        if stage["step"] != "crawl":
            assert (stage["read"], stage["kept"]) == (made.metrics["read"], made.metrics["kept"])
            assert sum(stage["dropped"].values()) == made.metrics["dropped"]
            assert stage["chars"] == made.metrics["chars"]
    tokens = Store(corpus).newest("tokens")
    assert tokens is not None
    total = sum(tokens.metrics[f"{split}_tokens"] for split in found["splits"])
    assert found["totals"]["tokens"] == total


def test_one_artifact_is_counted_by_itself(data: Headwater, corpus: Path) -> None:
    documents = list(read_documents(artifact(corpus, "clean")))
    found = json.loads(data("stats", "clean", "--json"))
    assert found["totals"]["documents"] == len(documents)
    assert [stage["step"] for stage in found["funnel"]] == ["clean"]
    assert found["groups"]["lang"]["zh"]["chars"] == sum(len(one.text) for one in documents if one.lang == "zh")


def test_the_tables_are_printed(data: Headwater) -> None:
    told = data("stats")
    for title in ("funnel", "dropped", "language", "host", "characters of a document", "splits"):
        assert f"\n{title}\n" in told
