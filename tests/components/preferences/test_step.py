"""The preferences step: honest pairs out of the sample, and what becomes of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.context import local_context
from components.errors import ConfigError, StepError
from components.instructions.config import InstructionsConfig
from components.instructions.sample import sample_instructions
from components.posttrain.prompts import read_table
from components.preferences.config import PreferencesConfig
from components.preferences.step import preferences
from components.publish import sha256_of
from components.sample.review_requests import requests
from components.sample.texts import conversations, held_out, reviews

PAIRS = ("train", "held_out")
FILES = (*PAIRS, "prompts_train", "prompts_held_out")


def run(folder: Path, config: PreferencesConfig | None = None, file: Path | None = None) -> dict[str, float]:
    return preferences(local_context("preferences", folder), config or PreferencesConfig(), file=file)


def rows_of(folder: Path, name: str) -> list[dict[str, object]]:
    return read_table(folder / "output" / f"{name}.arrow")


def asked(row: dict[str, object]) -> str:
    prompt = row["prompt"]
    assert isinstance(prompt, list)
    assert prompt[-1]["role"] == "user"
    return str(prompt[-1]["content"])


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(number: int, **other: object) -> dict[str, object]:
    return {"prompt": f"What is {number} + 1?", "chosen": f"It is {number + 1}.", "rejected": "No idea.", **other}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("preferences")
    return folder, run(folder)


def test_both_sides_of_a_pair_belong_to_its_part(sample: tuple[Path, dict[str, float]]):
    identity = {review.text: review.id for review in reviews()}
    for name in PAIRS:
        for row in rows_of(sample[0], name):
            if row["source"] == "reviews":
                sides = [identity[str(row[side])] for side in ("chosen", "rejected")]
            else:
                sides = str(row["id"]).split("+")
            assert [held_out(side) for side in sides] == [name == "held_out"] * 2


def test_positive_reviews_are_preferred_at_equal_length(sample: tuple[Path, dict[str, float]]):
    positive = {review.text: review.positive for review in reviews()}
    rows = [row for name in PAIRS for row in rows_of(sample[0], name) if row["source"] == "reviews"]
    assert len(rows) > 2000
    for row in rows:
        chosen, rejected = str(row["chosen"]), str(row["rejected"])
        assert positive[chosen]
        assert not positive[rejected]
        assert len(chosen) == len(rejected)
        assert row["margin"] == 1.0


def test_contributions_to_higher_rated_conversations_are_preferred(sample: tuple[Path, dict[str, float]]):
    by_id = {conversation.id: conversation for conversation in conversations()}
    rows = [row for name in PAIRS for row in rows_of(sample[0], name) if row["source"] == "chitchat"]
    assert len(rows) > 500
    for row in rows:
        high, low = (by_id[side.rpartition(".")[0]] for side in str(row["id"]).split("+"))
        assert high.rating is not None
        assert low.rating is not None
        assert high.rating >= 8 > 5 > low.rating
        assert high.topic == low.topic == asked(row)
        assert row["chosen"] in high.turns
        assert row["rejected"] in low.turns
        assert row["margin"] == pytest.approx((high.rating - low.rating) / 9)


def test_no_reply_is_used_twice(sample: tuple[Path, dict[str, float]]):
    sides = [side for name in PAIRS for row in rows_of(sample[0], name) for side in str(row["id"]).split("+")]
    assert len(sides) == len(set(sides))
    written = [str(row[side]) for name in PAIRS for row in rows_of(sample[0], name) if row["source"] == "reviews"
               for side in ("chosen", "rejected")]  # fmt: skip
    assert len(written) == len(set(written))


def test_length_does_not_tell_the_chosen_side(sample: tuple[Path, dict[str, float]]):
    assert 0.47 < sample[1]["longer_chosen"] < 0.53
    rows = [row for row in rows_of(sample[0], "train") if row["source"] == "chitchat"]
    gaps = [len(str(row["chosen"])) - len(str(row["rejected"])) for row in rows]
    assert abs(sum(gap > 0 for gap in gaps) - sum(gap < 0 for gap in gaps)) < 0.06 * len(rows)
    assert abs(sum(gaps)) < 0.5 * len(rows)


def test_metrics_count_the_rows_of_the_files(sample: tuple[Path, dict[str, float]]):
    folder, metrics = sample
    counts = {name: len(rows_of(folder, name)) for name in FILES}
    assert metrics["pairs_train"] == counts["train"] == metrics["pairs_reviews"] + metrics["pairs_chitchat"]
    assert metrics["pairs_held_out"] == counts["held_out"] > 300
    assert (metrics["prompts_train"], metrics["prompts_held_out"]) == (
        counts["prompts_train"],
        counts["prompts_held_out"],
    )


def test_held_out_prompts_are_in_no_training_data(sample: tuple[Path, dict[str, float]]):
    folder, _ = sample
    train, _ = sample_instructions(InstructionsConfig())
    seen = {message["content"] for row in train for message in row.messages}
    seen |= {asked(row) for name in ("train", "prompts_train") for row in rows_of(folder, name)}
    held = {asked(row) for row in rows_of(folder, "prompts_held_out")}
    assert len(held) == len(rows_of(folder, "prompts_held_out")) > 50
    assert not held & seen


def test_prompts_ask_for_reviews_and_open_conversations(sample: tuple[Path, dict[str, float]]):
    prompts = {lang: {asked(row) for row in rows_of(sample[0], "prompts_train") if row["lang"] == lang}
               for lang in ("en", "zh")}  # fmt: skip
    assert prompts["zh"] == set(requests(held_out=False))
    assert {"Hello?", "What superpower do you wish you had, and why?"} <= prompts["en"]


def test_two_runs_write_the_same_bytes(sample: tuple[Path, dict[str, float]], tmp_path: Path):
    run(tmp_path)
    for name in FILES:
        first, second = (folder / "output" / f"{name}.arrow" for folder in (sample[0], tmp_path))
        assert sha256_of(first) == sha256_of(second)


def test_a_limit_takes_so_many_training_pairs_of_each_source(tmp_path: Path):
    metrics = run(tmp_path, PreferencesConfig(max_pairs_per_source=100))
    assert (metrics["pairs_chitchat"], metrics["pairs_reviews"]) == (100, 100)


def test_the_pairs_of_a_prompt_stay_on_one_side(tmp_path: Path):
    rows = [pair(number % 30, rejected=f"No {number}.") for number in range(90)]
    metrics = run(tmp_path / "step", PreferencesConfig(held_out_fraction=0.3), write_rows(tmp_path / "p.jsonl", rows))
    asked_by_file = {name: {asked(row) for row in rows_of(tmp_path / "step", name)} for name in FILES}
    assert asked_by_file["train"] == asked_by_file["prompts_train"]
    assert asked_by_file["held_out"] == asked_by_file["prompts_held_out"]
    assert not asked_by_file["train"] & asked_by_file["held_out"]
    assert metrics["pairs_train"] + metrics["pairs_held_out"] == 90
    assert metrics["prompts_train"] + metrics["prompts_held_out"] == 30


def test_a_prompt_may_be_a_conversation_and_a_pair_may_have_a_margin(tmp_path: Path):
    talk = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "1 + 1?"},
    ]
    file = write_rows(tmp_path / "p.jsonl", [pair(1, prompt=talk, margin=0.25), pair(2), pair(2)])
    metrics = run(tmp_path / "step", file=file)
    rows = [row for name in PAIRS for row in rows_of(tmp_path / "step", name)]
    assert sorted(row["margin"] for row in rows) == [0.25, 1.0]  # type: ignore[type-var]
    assert talk in [row["prompt"] for row in rows]
    assert metrics["repeated"] == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "hi", "chosen": "hello"}, '"rejected" is missing'),
        ({"prompt": "hi", "rejected": "hello"}, '"chosen" is missing'),
        ({"chosen": "hi", "rejected": "hello"}, '"prompt" is missing'),
        (pair(3, rejected="  "), '"rejected" is empty'),
        (pair(3, chosen=None), '"chosen" is empty or no text'),
        (pair(3, chosen="No idea."), "the same text"),
        (pair(3, margin=2), '"margin" is 2.0'),
        (pair(3, prompt=[{"role": "assistant", "content": "hi"}]), '"prompt" ends with the assistant, not the user'),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_side(tmp_path: Path, row: dict[str, object], said: str):
    file = write_rows(tmp_path / "pairs.jsonl", [pair(1), row])
    with pytest.raises(StepError, match=said) as caught:
        run(tmp_path / "step", file=file)
    assert caught.value.where == f"{file}, line 2"
    assert caught.value.fix


def test_a_file_with_one_prompt_is_refused(tmp_path: Path):
    file = write_rows(tmp_path / "pairs.jsonl", [pair(1), pair(1, rejected="Ask me later.")])
    with pytest.raises(StepError, match="pairs for 1 different prompts"):
        run(tmp_path / "step", file=file)


@pytest.mark.parametrize(
    "wrong",
    [{"high_rating": 11.0}, {"low_rating": 0.0}, {"high_rating": 4.0}, {"max_review_chars": 5}, {"num_openers": 0},
     {"max_reply_chars": 5}, {"max_pairs_per_source": 0}, {"held_out_fraction": 1.0}],
)  # fmt: skip
def test_impossible_settings_are_refused_by_key(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=f"preferences.{next(iter(wrong))}"):
        PreferencesConfig(**wrong)
