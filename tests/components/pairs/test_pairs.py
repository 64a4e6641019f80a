"""Pairs: what the sample says is what Unicode says, nothing held out is learned from, bad rows are named."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.context import local_context
from components.documents import read_documents
from components.errors import ConfigError, StepError
from components.pairs.config import PairsConfig
from components.pairs.sample import sample_pairs
from components.pairs.step import pairs
from components.pairs.table import Pair, read_pairs, split_pairs


@pytest.fixture(scope="module")
def drawn() -> list[Pair]:
    return list(sample_pairs(1200, 3))


def test_the_sample_is_made_of_five_kinds_and_is_the_same_each_time(drawn):
    counts = Counter(pair.kind for pair in drawn)
    assert set(counts) == {"name", "list", "date", "measure", "money"}
    assert min(counts.values()) > 80
    assert drawn == list(sample_pairs(1200, 3))
    assert drawn != list(sample_pairs(1200, 4))


def test_phrases_are_english_and_chinese_and_say_the_same(drawn):
    assert all(pair.source.strip() and pair.target.strip() for pair in drawn)
    chinese = sum(any("\u4e00" <= char <= "\u9fff" for char in pair.target) for pair in drawn)
    assert chinese > 0.9 * len(drawn)
    assert not any("\u4e00" <= char <= "\u9fff" for pair in drawn for char in pair.source)
    for pair in drawn:
        if pair.kind == "money":  # the amount is written with the same digits
            assert pair.source.split()[0] in pair.target
    assert not any("-" in pair.target and pair.kind == "measure" and pair.target.isascii() for pair in drawn)


def test_units_that_chinese_has_no_words_for_are_not_invented(drawn):
    from babel import Locale

    names = set(Locale("zh")._data["unit_patterns"])
    assert not any(unit in pair.target for pair in drawn for unit in names)


texts = st.text("ab", min_size=1, max_size=2)


@given(st.lists(st.builds(Pair, st.just("x"), texts, texts), min_size=2, max_size=40), st.floats(0.05, 0.9))
def test_no_source_and_no_target_is_on_both_sides_and_every_source_once(rows, fraction):
    split = split_pairs(rows, fraction, 2)
    for side in ("source", "target"):
        train, held = ({getattr(pair, side) for pair in part} for part in (split.train, split.held_out))
        assert not train & held
    sources = [pair.source for pair in [*split.train, *split.held_out]]
    assert sorted(sources) == sorted({pair.source for pair in rows})
    assert len(rows) == len(sources) + split.repeated
    if len({pair.target for pair in [*split.train, *split.held_out]}) > 1:
        assert split.train
        assert split.held_out


def test_the_share_held_out_is_the_one_asked_for():
    rows = [Pair("x", f"s{number}", f"t{number}") for number in range(4000)]
    split = split_pairs(rows, 0.1, 10)
    assert 330 < len(split.held_out) < 470


def test_the_step_writes_both_parts_and_the_texts_of_one(tmp_path):
    context = local_context("pairs", tmp_path, 17)
    metrics = pairs(context, PairsConfig(num_pairs=400))
    train, held_out = (read_pairs(context.output / f"{name}.arrow") for name in ("train", "held_out"))
    assert metrics["pairs_train"] == len(train)
    assert metrics["pairs_held_out"] == len(held_out) >= 1
    texts_kept = {document.text for document in read_documents(context.output)}
    assert texts_kept == {text for pair in train for text in (pair.source, pair.target)}
    assert not texts_kept & {pair.target for pair in held_out}


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_file_of_pairs_is_taken(tmp_path):
    rows = [{"source": f" s{number} ", "target": f"t{number}"} for number in range(20)]
    rows += [{"source": "s1", "target": "other"}, {"source": "x" * 50, "target": "y"}]
    file = write(tmp_path / "mine.jsonl", *rows)
    context = local_context("pairs", tmp_path / "run", 17)
    metrics = pairs(context, PairsConfig(held_out_fraction=0.2, max_chars=40), file)
    assert (metrics["repeated"], metrics["too_long"]) == (1, 1)
    assert metrics["pairs_train"] + metrics["pairs_held_out"] == 20
    assert {pair.kind for pair in read_pairs(context.output / "train.arrow")} == {"mine"}


@pytest.mark.parametrize(
    ("row", "words"),
    [({"source": "a"}, '"target" is missing'), ({"source": " ", "target": "b"}, "empty"), ({"source": 3}, "no text")],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path, row, words):
    file = write(tmp_path / "mine.jsonl", {"source": "a", "target": "b"}, row)
    with pytest.raises(StepError, match=words) as refusal:
        pairs(local_context("pairs", tmp_path / "run"), PairsConfig(), file)
    assert "line 2" in refusal.value.where


def test_too_few_pairs_are_refused(tmp_path):
    file = write(tmp_path / "mine.jsonl", {"source": "a", "target": "b"}, {"source": "c", "target": "b"})
    with pytest.raises(StepError, match="two with different targets"):
        pairs(local_context("pairs", tmp_path / "run"), PairsConfig(), file)


@pytest.mark.parametrize("changes", [{"num_pairs": 10}, {"held_out_fraction": 0.0}, {"max_chars": 0}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        PairsConfig(**changes)
