"""The instructions step: what the sample gives, and what becomes of a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from components.context import local_context
from components.errors import ConfigError, StepError
from components.instructions.config import InstructionsConfig
from components.instructions.step import instructions
from components.posttrain.prompts import read_table
from components.publish import sha256_of
from components.sample.review_requests import requests
from components.sample.texts import conversations, held_out, reviews

SPLITS = ("train", "held_out")


def run(folder: Path, config: InstructionsConfig | None = None, file: Path | None = None) -> dict[str, float]:
    return instructions(local_context("instructions", folder), config or InstructionsConfig(), file=file)


def rows_of(folder: Path) -> dict[str, list[dict[str, object]]]:
    return {split: read_table(folder / "output" / f"{split}.arrow") for split in SPLITS}


def write_rows(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def dialogue(number: int) -> dict[str, object]:
    question, answer = f"What is {number} + 1?", f"It is {number + 1}."
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("instructions")
    return folder, run(folder, InstructionsConfig(max_per_source=800))


def test_no_held_out_text_is_trained_on(sample: tuple[Path, dict[str, float]]):
    rows = rows_of(sample[0])
    assert not any(held_out(str(row["id"])) for row in rows["train"])
    assert all(held_out(str(row["id"])) for row in rows["held_out"])
    assert not {row["id"] for row in rows["train"]} & {row["id"] for row in rows["held_out"]}


def test_all_sources_and_both_languages_are_there_up_to_the_limit(sample: tuple[Path, dict[str, float]]):
    rows = rows_of(sample[0])["train"]
    counts = Counter(row["source"] for row in rows)
    assert counts == {"chitchat": 800, "chatterbot": 800, "reviews": 800}
    assert {row["lang"] for row in rows} == {"en", "zh"}
    assert sample[1]["train"] == 2400
    assert sample[1]["train_reviews"] == 800


def test_every_row_is_a_conversation_whose_last_word_is_the_assistants(sample: tuple[Path, dict[str, float]]):
    for split in SPLITS:
        for row in rows_of(sample[0])[split]:
            messages = row["messages"]
            assert isinstance(messages, list)
            assert messages[0]["role"] == "user"
            assert messages[-1]["role"] == "assistant"
            assert all(message["content"].strip() for message in messages)


def test_reviews_of_both_labels_answer_requests_of_their_own_part(sample: tuple[Path, dict[str, float]]):
    label = {review.id: review.positive for review in reviews()}
    rows = rows_of(sample[0])
    for split in SPLITS:
        written = [row for row in rows[split] if row["source"] == "reviews"]
        share = sum(label[str(row["id"])] for row in written) / len(written)
        assert 0.35 < share < 0.55
        asked = {row["messages"][0]["content"] for row in written}  # type: ignore[index]
        assert asked <= set(requests(held_out=split == "held_out"))


def test_conversations_that_people_rated_low_are_left_out(sample: tuple[Path, dict[str, float]]):
    rating = {conversation.id: conversation.rating for conversation in conversations()}
    ids = {str(row["id"]).rpartition(".")[0] for row in rows_of(sample[0])["train"] if row["source"] == "chitchat"}
    assert ids
    assert all(rating[identity] is None or rating[identity] >= 5.0 for identity in ids)


def test_two_runs_write_the_same_bytes(sample: tuple[Path, dict[str, float]], tmp_path: Path):
    run(tmp_path, InstructionsConfig(max_per_source=800))
    for split in SPLITS:
        assert sha256_of(tmp_path / "output" / f"{split}.arrow") == sha256_of(sample[0] / "output" / f"{split}.arrow")


def test_each_different_row_of_a_file_is_on_one_side_and_repetitions_are_counted(tmp_path: Path):
    file = write_rows(tmp_path / "mine.jsonl", [dialogue(number % 40) for number in range(50)])
    metrics = run(tmp_path / "step", InstructionsConfig(held_out_fraction=0.2), file)
    rows = rows_of(tmp_path / "step")
    said = {split: {row["messages"][1]["content"] for row in rows[split]} for split in SPLITS}  # type: ignore[index]
    assert said["train"] | said["held_out"] == {f"It is {number + 1}." for number in range(40)}
    assert not said["train"] & said["held_out"]
    assert (metrics["train"] + metrics["held_out"], metrics["repeated"]) == (40, 10)
    assert 2 <= metrics["held_out"] <= 16
    assert metrics["train_mine"] == metrics["train"]


def test_the_side_of_a_row_does_not_depend_on_the_order_of_the_file(tmp_path: Path):
    for name, numbers in (("one", range(40)), ("two", reversed(range(40)))):
        file = write_rows(tmp_path / f"{name}.jsonl", [{**dialogue(number), "source": "x"} for number in numbers])
        run(tmp_path / name, InstructionsConfig(held_out_fraction=0.2), file)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")


def test_languages_are_guessed_unless_given(tmp_path: Path):
    chinese = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]}
    file = write_rows(tmp_path / "mine.jsonl", [chinese, dialogue(1), {**dialogue(2), "lang": "en"}])
    run(tmp_path / "step", file=file)
    langs = [str(row["lang"]) for rows in rows_of(tmp_path / "step").values() for row in rows]
    assert sorted(langs) == ["en", "und", "zh"]


def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path):
    question = {"messages": [{"role": "user", "content": "What is 1 + 1?"}]}
    file = write_rows(tmp_path / "mine.jsonl", [dialogue(1), dialogue(2), question])
    with pytest.raises(StepError, match="ends with the user, not the assistant") as caught:
        run(tmp_path / "step", file=file)
    assert caught.value.where == f"{file}, line 3"


def test_a_file_with_one_dialogue_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="1 different dialogues"):
        run(tmp_path / "step", file=write_rows(tmp_path / "mine.jsonl", [dialogue(1)] * 3))


@pytest.mark.parametrize(
    "wrong",
    [{"max_turns": 1}, {"max_turn_chars": 3}, {"windows_per_conversation": 0}, {"max_review_chars": 5},
     {"max_per_source": 0}, {"held_out_fraction": 0.0}, {"held_out_fraction": 1.0}],
)  # fmt: skip
def test_impossible_settings_are_refused_by_key(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=f"instructions.{next(iter(wrong))}"):
        InstructionsConfig(**wrong)
