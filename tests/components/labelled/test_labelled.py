"""Labelled texts: split by the text itself, contradictions left out, bad rows named."""

from __future__ import annotations

import json

import pytest

from components.context import local_context
from components.errors import ConfigError, StepError
from components.labelled.config import LabelledConfig
from components.labelled.step import labelled
from components.labelled.table import read_labelled
from components.sample.texts import held_out


def write(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def make(tmp_path, rows, **settings):
    context = local_context("labelled", tmp_path / "run")
    metrics = labelled(context, LabelledConfig(**settings), write(tmp_path / "mine.jsonl", rows))
    parts = [read_labelled(context.output / f"{name}.arrow") for name in ("train", "validation", "held_out")]
    return metrics, parts, json.loads((context.output / "labels.json").read_text())


def test_the_sample_has_both_labels_and_keeps_its_held_out_reviews_apart(tmp_path):
    context = local_context("labelled", tmp_path)
    metrics = labelled(context, LabelledConfig(max_train=900))
    train, validation, held = (
        read_labelled(context.output / f"{name}.arrow") for name in ("train", "validation", "held_out")
    )
    assert json.loads((context.output / "labels.json").read_text()) == ["negative", "positive"]
    assert metrics["texts_train"] == len(train) == 900
    assert not any(held_out(row.id) for row in (*train, *validation))
    assert 1400 < len(validation) == metrics["texts_validation"] < 1700
    assert not {row.text for row in train} & {row.text for row in validation}
    assert all(held_out(row.id) for row in held)
    assert len(held) > 1500
    assert not {row.text for row in train} & {row.text for row in held}
    assert 0.4 < metrics["texts_positive"] / 900 < 0.6


def test_a_file_is_split_by_text_and_labels_may_be_numbers(tmp_path):
    rows = [{"text": f"text {number}", "label": number % 3} for number in range(60)]
    rows += [rows[0], {"text": "text 1", "label": 2}]
    metrics, (train, validation, held), labels = make(tmp_path, rows, held_out_fraction=0.2, validation_fraction=0.25)
    assert labels == ["0", "1", "2"]
    assert (metrics["repeated"], metrics["contradicted"]) == (2, 1)
    assert len(train) + len(validation) + len(held) == len({row.id for row in (*train, *validation, *held)}) == 59
    assert len(validation) == round(0.25 * (59 - len(held)))
    assert not any(row.text == "text 1" for row in [*train, *validation, *held])
    assert {row.label for row in train if row.text == "text 0"} <= {"0"}


def test_the_same_file_is_split_the_same_way_in_any_order(tmp_path):
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(40)]
    one = make(tmp_path, rows)[1]
    assert make(tmp_path, rows[::-1])[1] == one


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "x"}, '"label" is missing'),
        ({"label": "x"}, '"text" is missing'),
        ({"text": "x", "label": True}, "no text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path, row, words):
    with pytest.raises(StepError, match=words) as refusal:
        make(tmp_path, [{"text": "a", "label": "b"}, row])
    assert "line 2" in refusal.value.where


def test_one_label_is_refused(tmp_path):
    with pytest.raises(StepError, match="1 different labels"):
        make(tmp_path, [{"text": f"{number}", "label": "same"} for number in range(10)])


def test_a_label_that_is_held_out_alone_is_refused(tmp_path):
    rows = [{"text": f"{number}", "label": f"rare {number}"} for number in range(30)]
    with pytest.raises(StepError, match="is on no text to learn from"):
        make(tmp_path, rows, held_out_fraction=0.3)


@pytest.mark.parametrize("changes", [{"max_train": 1}, {"held_out_fraction": 1.0}, {"validation_fraction": 0.0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        LabelledConfig(**changes)
