"""`graph` draws the plan or a run in three forms."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .conftest import Headwater


def test_text_names_the_state_and_the_inputs_of_each_step(headwater: Headwater) -> None:
    lines = headwater("graph", "clean.min_chars=300").splitlines()
    assert lines[0].split() == ["instructions", "cached"]
    assert next(line for line in lines if line.startswith("clean")).split() == [
        "clean",
        "runs",
        "~1.5",
        "s",
        "<-",
        "score",
    ]


def test_mermaid_and_svg_hold_every_step(headwater: Headwater) -> None:
    for form in ("mermaid", "svg"):
        out = headwater("graph", "--format", form, "clean.min_chars=300", "--until", "dedup")
        assert all(step in out for step in ("site", "dedup", "evaluate"))
    assert ElementTree.fromstring(out).tag.endswith("svg")


def test_a_state_of_two_words_is_one_class_in_mermaid(headwater: Headwater) -> None:
    out = headwater("graph", "--format", "mermaid", "clean.min_chars=300", "--until", "dedup")
    assert "classDef left_out " in out
    assert out.rstrip().splitlines()[-3].startswith("  class ")


def test_a_run_is_drawn_as_it_stands(headwater: Headwater) -> None:
    record = json.loads(headwater("graph", "--run-id", "birch-2", "--json"))
    assert record["states"]["clean"] == "done"
    assert record["states"]["crawl"] == "cached"
    assert record["producers"]["dedup"] == ["clean", "sketch"]


@pytest.mark.parametrize("form", ["text", "svg"])
def test_a_picture_may_be_written_to_a_file(headwater: Headwater, tmp_path: Path, form: str) -> None:
    assert headwater("graph", "--format", form, "--output", str(tmp_path / "picture")) == ""
    assert "evaluate" in (tmp_path / "picture").read_text()
