"""The report's section on the corpus."""

# ruff: noqa: F811  (fixtures come by import)
from __future__ import annotations

from pathlib import Path

from corpus_help import artifact, corpus  # noqa: F401  (fixtures)

from components.publish import read_json
from pipelines.report.blocks import Heading, to_html, to_markdown
from pipelines.report.data import corpus_blocks


def test_the_section_says_what_the_card_says(corpus: Path) -> None:
    card = read_json(artifact(corpus, "card") / "card.json")
    blocks = list(corpus_blocks(card))
    assert blocks[0] == Heading("Corpus")
    for text in (to_html("run", blocks), to_markdown("run", blocks)):
        assert f"{card['totals']['documents']:,} documents" in text  # type: ignore[index]
        assert "sample.headwater.test" in text


def test_a_fault_is_told(corpus: Path) -> None:
    card = read_json(artifact(corpus, "card") / "card.json") | {"faults": ["clean read 5 documents, but kept 2"]}
    assert "Does not add up: clean read 5 documents" in to_markdown("run", list(corpus_blocks(card)))


def test_a_run_without_a_card_has_no_section() -> None:
    assert list(corpus_blocks(None)) == []
