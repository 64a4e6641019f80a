"""The augment step: labels stay, parents are told, evaluation is untouched, and order and workers do not matter."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.augment.config import AugmentConfig
from components.augment.step import augment
from components.context import LocalContext, local_context
from components.errors import ConfigError, Preempted, StepError
from components.posttrain.dialogues import Instruction, write_instructions

SENTENCES = [
    ("The film was good and the story moved me to tears.", "pos"),
    ("A dull film, with a story that goes nowhere at all.", "neg"),
    ("这家酒店很好，服务也很周到，下次还来。", "pos"),
    ("房间太小，早餐不好吃，不会再来了。", "neg"),
]


def write_lines(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled(count: int = 40) -> list[dict[str, object]]:
    return [
        {"text": f"{SENTENCES[number % 4][0]} {number}", "label": SENTENCES[number % 4][1], "note": number}
        for number in range(count)
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def context(folder: Path) -> LocalContext:
    return local_context("augment", folder)


@pytest.fixture
def synonyms(tmp_path: Path) -> Path:
    path = tmp_path / "synonyms.txt"
    path.write_text("film movie\nstory tale\n酒店 宾馆\n房间 屋子\n", encoding="utf-8")
    return path


def test_copies_keep_label_and_other_keys_and_name_their_parent(tmp_path: Path, synonyms: Path):
    ctx = context(tmp_path / "step")
    file = write_lines(tmp_path / "rows.jsonl", labelled())
    metrics = augment(ctx, AugmentConfig(keep_frequent=0), file=file, synonyms=synonyms)
    rows = {row["id"]: row for row in read_lines(ctx.output / "train.jsonl")}
    copies = [row for row in rows.values() if "parent" in row]
    assert len(rows) == 40 + len(copies)
    assert len(copies) == metrics["made"] > 120
    for copy in copies:
        parent = rows[copy["parent"]]
        assert (copy["label"], copy["note"]) == (parent["label"], parent["note"])
        assert copy["text"] != parent["text"]
        assert copy["operation"] in ("replace", "insert", "swap", "delete")


def test_every_copy_asked_for_is_accounted_for(tmp_path: Path, synonyms: Path):
    rows = [*labelled(20), {"text": "short", "label": 1}]
    metrics = augment(
        context(tmp_path / "step"),
        AugmentConfig(),
        file=write_lines(tmp_path / "rows.jsonl", rows),
        synonyms=synonyms,
    )
    assert metrics["asked"] == 21 * 4
    assert metrics["asked"] == sum(metrics[name] for name in ("made", "unchanged", "short", "leaked"))
    assert metrics["made"] == sum(metrics[name] for name in metrics if name.startswith("made_"))
    assert metrics["short"] == 4


def test_chinese_words_of_the_file_are_replaced_whole(tmp_path: Path, synonyms: Path):
    ctx = context(tmp_path / "step")
    config = AugmentConfig(copies=1, insert_rate=0, swap_rate=0, delete_rate=0, keep_frequent=0)
    augment(ctx, config, file=write_lines(tmp_path / "rows.jsonl", labelled(4)), synonyms=synonyms)
    texts = [row["text"] for row in read_lines(ctx.output / "train.jsonl") if "parent" in row]
    assert any(text.startswith("这家宾馆很好，服务") for text in texts)
    assert any(text.startswith("屋子太小，早餐") for text in texts)


def outputs(
    folder: Path, rows: Sequence[dict[str, object]], config: AugmentConfig, synonyms: Path | None = None
) -> bytes:
    ctx = context(folder)
    augment(ctx, config, file=write_lines(folder / "rows.jsonl", rows), synonyms=synonyms)
    return (ctx.output / "train.jsonl").read_bytes()


def test_neither_the_order_of_rows_nor_the_size_of_tasks_matters(tmp_path: Path):
    rows = labelled()
    first = outputs(tmp_path / "a", rows, AugmentConfig())
    assert outputs(tmp_path / "b", random.Random(1).sample(rows, 40), AugmentConfig(rows_at_once=3)) == first


def test_a_copy_does_not_depend_on_other_rows(tmp_path: Path, synonyms: Path):
    config = AugmentConfig(keep_frequent=0)
    some = set(outputs(tmp_path / "a", labelled(10), config, synonyms).splitlines())
    assert some < set(outputs(tmp_path / "b", labelled(40), config, synonyms).splitlines())


def test_rows_of_one_text_and_other_ids_are_varied_apart(tmp_path: Path):
    rows: list[dict[str, object]] = [
        {"id": str(number), "text": " ".join(f"word{at}" for at in range(40)), "label": 1} for number in range(2)
    ]
    ctx = context(tmp_path / "step")
    augment(ctx, AugmentConfig(insert_rate=0, replace_rate=0), file=write_lines(tmp_path / "rows.jsonl", rows))
    texts = [row["text"] for row in read_lines(ctx.output / "train.jsonl") if "parent" in row]
    assert len(set(texts)) == len(texts) == 8


def test_another_seed_gives_other_copies(tmp_path: Path):
    first, second = context(tmp_path / "a"), local_context("augment", tmp_path / "b", base_seed=1)
    file = write_lines(tmp_path / "rows.jsonl", labelled())
    augment(first, AugmentConfig(), file=file)
    augment(second, AugmentConfig(seed=1), file=file)
    assert (first.output / "train.jsonl").read_bytes() != (second.output / "train.jsonl").read_bytes()


def test_rows_for_evaluation_are_passed_on_and_never_varied(tmp_path: Path):
    ctx = context(tmp_path / "step")
    held = [{"text": "The test was a long one.", "label": "pos", "split": "test", "id": "t1"}]
    metrics = augment(ctx, AugmentConfig(), file=write_lines(tmp_path / "rows.jsonl", [*labelled(8), *held]))
    assert read_lines(ctx.output / "held_out.jsonl") == held
    assert metrics["held_out"] == 1
    assert not any("test was" in row["text"] for row in read_lines(ctx.output / "train.jsonl"))


def test_a_copy_that_reads_like_a_held_out_text_is_thrown_away(tmp_path: Path, synonyms: Path):
    rows: list[dict[str, object]] = [
        {"text": "see this film", "label": 1},
        {"text": "see this movie", "label": 1, "split": "test"},
    ]
    config = AugmentConfig(copies=1, insert_rate=0, swap_rate=0, delete_rate=0, keep_frequent=0)
    ctx = context(tmp_path / "step")
    metrics = augment(ctx, config, file=write_lines(tmp_path / "rows.jsonl", rows), synonyms=synonyms)
    assert (metrics["leaked"], metrics["made"]) == (1, 0)
    assert len(read_lines(ctx.output / "train.jsonl")) == 1


def write_artifact(folder: Path) -> Path:
    def talk(number: int) -> Instruction:
        said = {"role": "user", "content": f"{SENTENCES[number % 4][0]} {number}"}
        reply = {"role": "assistant", "content": f"That is {SENTENCES[number % 4][1]}, I would say."}
        return Instruction(
            f"{number:032x}", "en", "test", ({"role": "system", "content": "Judge it now."}, said, reply)
        )

    folder.mkdir(parents=True)
    write_instructions(folder / "train.arrow", [talk(number) for number in range(20)])
    write_instructions(folder / "held_out.arrow", [talk(number) for number in range(20, 24)])
    return folder


def read_arrow(path: Path) -> dict[str, list[dict[str, str]]]:
    with pa.memory_map(str(path)) as source:
        return {row["id"]: row["messages"] for row in pa.ipc.open_file(source).read_all().to_pylist()}


def test_in_instructions_the_user_is_varied_and_nobody_else(tmp_path: Path):
    ctx = context(tmp_path / "step")
    artifact = write_artifact(tmp_path / "instructions")
    augment(ctx, AugmentConfig(), instructions=artifact)
    rows = read_arrow(ctx.output / "train.arrow")
    copies = read_lines(ctx.output / "copies.jsonl")
    assert len(copies) >= 40
    assert set(rows) == {*read_arrow(artifact / "train.arrow"), *(copy["id"] for copy in copies)}
    for copy in copies:
        system, user, assistant = rows[copy["id"]]
        parent = rows[copy["parent"]]
        assert (system, assistant) == (parent[0], parent[2])
        assert user["content"] != parent[1]["content"]
    assert (ctx.output / "held_out.arrow").read_bytes() == (artifact / "held_out.arrow").read_bytes()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "no label here"}, '"label" is missing'),
        ({"text": "a list", "label": [1]}, '"label" is missing or neither'),
        ({"label": "x"}, '"text" is missing'),
        ({"text": "The film was good", "label": "x", "id": "same"}, "comes twice"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, row: dict[str, object], told: str):
    file = write_lines(tmp_path / "rows.jsonl", [{"text": "One two three", "label": "x", "id": "same"}, row])
    with pytest.raises(StepError, match=told) as caught:
        augment(context(tmp_path / "step"), AugmentConfig(), file=file)
    assert "line 2" in caught.value.where


@pytest.mark.parametrize("given", [{}, {"file": Path("a"), "instructions": Path("b")}])
def test_exactly_one_set_of_examples_is_taken(tmp_path: Path, given: dict[str, Path]):
    with pytest.raises(StepError, match="one set of examples"):
        augment(context(tmp_path / "step"), AugmentConfig(), **given)


def test_a_folder_that_is_no_instructions_artifact_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="no such file"):
        augment(context(tmp_path / "step"), AugmentConfig(), instructions=tmp_path)


def test_a_stop_is_heard_and_nothing_is_published(tmp_path: Path):
    ctx = context(tmp_path / "step")
    (tmp_path / "step" / "stop").touch()
    with pytest.raises(Preempted):
        augment(ctx, AugmentConfig(), file=write_lines(tmp_path / "rows.jsonl", labelled()))
    assert list(ctx.output.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"copies": 0},
        {"replace_rate": 1.0},
        {"delete_rate": -0.1},
        {"segmenter": "x"},
        {"min_words": 1},
        {"neighbours": -1},
    ],
)
def test_impossible_settings_are_refused_by_key(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match=f"augment.{next(iter(wrong))}"):
        AugmentConfig(**wrong)


def test_rows_that_repeat_another_are_left_out_and_counted(tmp_path: Path):
    metrics = augment(
        context(tmp_path / "step"),
        AugmentConfig(),
        file=write_lines(tmp_path / "rows.jsonl", labelled(8) + labelled(3)),
    )
    assert (metrics["read"], metrics["repeated"], metrics["asked"]) == (11, 3, 32)


def test_a_set_that_was_augmented_before_is_refused(tmp_path: Path):
    first = context(tmp_path / "a")
    augment(first, AugmentConfig(), file=write_lines(tmp_path / "rows.jsonl", labelled(8)))
    with pytest.raises(StepError, match="is that of a copy"):
        augment(context(tmp_path / "b"), AugmentConfig(), file=first.output / "train.jsonl")


def test_settings_that_leave_nothing_to_do_are_refused():
    with pytest.raises(ConfigError, match="nothing to do"):
        AugmentConfig(replace_rate=0, insert_rate=0, swap_rate=0, delete_rate=0)
