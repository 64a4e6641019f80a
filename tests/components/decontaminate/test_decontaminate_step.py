"""The step `decontaminate`: leaks in every disguise are found and taken out, and what anybody says stays."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from dedup_help import bytes_of
from made_texts import make_document, make_text, write_artifact
from parallel_context import parallel_context

from components.context import local_context
from components.decontaminate.config import DecontaminateConfig
from components.decontaminate.step import decontaminate
from components.documents import read_documents, read_dropped
from components.errors import ConfigError, StepError
from components.posttrain.dialogues import Instruction, write_instructions

Benchmark = Callable[..., Path]
Check = Callable[..., tuple[dict[str, float], Path]]

QUESTION = (
    "A farmer walks nine miles to the market every Thursday and sells twelve baskets of apples there; how many "
    "baskets does he sell in the five weeks before the harvest feast?"
)
OPTIONS = ["Sixty baskets of apples", "Forty five baskets of apples", "Twelve baskets of apples", "He sells none"]
SIMPLIFIED = "长江是中国最长的河流，它发源于青藏高原，流经十一个省市，最后在上海附近注入东海，全长约六千三百公里。"
TRADITIONAL = "長江是中國最長的河流，它發源於青藏高原，流經十一個省市，最後在上海附近注入東海，全長約六千三百公里。"
AROUND = " ".join(make_text("en", seed, 600) for seed in range(4))
AROUND_ZH = "。".join(make_text("zh", seed, 90) for seed in range(8))


def wrapped(text: str, every: int = 8) -> str:
    words = text.split(" ")
    return "\n".join(" ".join(words[at : at + every]) for at in range(0, len(words), every))


LEAKS = {
    "verbatim": QUESTION,
    "wrapped after eight words": wrapped(QUESTION),
    "in capitals": QUESTION.upper(),
    "in full width": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in QUESTION),
    "without marks": QUESTION.replace(",", "").replace(";", "").replace("?", ""),
    "with its options": QUESTION + "\n" + "\n".join(OPTIONS),
    "with its options in another order": QUESTION
    + "\n"
    + "\n".join(f"({i}) {one}" for i, one in enumerate(OPTIONS[::-1])),
    "only its greater part": QUESTION[: int(len(QUESTION) * 0.8)],
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_leak_in_the_middle_of_a_long_text_is_cut_out(leak: str, benchmark: Benchmark, check: Check) -> None:
    items = benchmark({"id": "apples", "question": QUESTION, "options": OPTIONS, "answer": 0})
    metrics, output = check([f"{AROUND}\n{leak}\n{AROUND}", AROUND], items)
    assert (metrics["contaminated"], metrics["kept"]) == (1, 2)
    texts = [document.text for document in read_documents(output)]
    assert not any("farmer" in text.lower() or "ｆａｒｍｅｒ" in text.lower() for text in texts)
    assert all(text.startswith(AROUND[:500]) and text.endswith(AROUND[-500:]) for text in texts)


@pytest.mark.parametrize(
    ("item", "leak"), [(SIMPLIFIED, TRADITIONAL), (TRADITIONAL, SIMPLIFIED), (SIMPLIFIED, SIMPLIFIED)]
)
def test_chinese_is_found_in_either_script_and_over_line_breaks(
    item: str, leak: str, benchmark: Benchmark, check: Check
) -> None:
    broken = "\n".join(leak[at : at + 8] for at in range(0, len(leak), 8))
    metrics, output = check(
        [AROUND_ZH + leak + AROUND_ZH, AROUND_ZH + "\n" + broken, AROUND_ZH], benchmark({"text": item})
    )
    assert metrics["contaminated"] == 2
    assert all("青藏" not in document.text for document in read_documents(output))


def test_dropping_leaves_a_row_with_the_item(benchmark: Benchmark, check: Check) -> None:
    items = benchmark({"id": "apples", "question": QUESTION})
    metrics, output = check([f"{AROUND} {QUESTION}", AROUND], items, DecontaminateConfig(action="drop", probes=0))
    (row,) = read_dropped(output)
    assert (row.url, row.rule, row.value, row.threshold) == (
        "0",
        "contaminated",
        "1.000",
        "0.5, item bench.jsonl/apples",
    )
    assert metrics["read"] == 2 == metrics["kept"] + metrics["dropped"]


def test_a_text_that_was_a_leak_alone_is_dropped_as_too_short(benchmark: Benchmark, check: Check) -> None:
    _, output = check([QUESTION, AROUND], benchmark({"question": QUESTION}))
    (row,) = read_dropped(output)
    assert (row.rule, row.value) == ("short_after_cuts", "0")


def test_an_item_that_stands_twice_is_cut_twice(benchmark: Benchmark, check: Check) -> None:
    _, output = check([f"{AROUND}\n{QUESTION}\n{AROUND * 3}\n{QUESTION}\n{AROUND}"], benchmark({"question": QUESTION}))
    (document,) = read_documents(output)
    assert "farmer" not in document.text


SHORT = "Which river flows through the middle of Paris?"
GREETING = "Hello, how are you today?"


def test_a_short_item_is_found_only_as_a_whole_sentence_or_with_its_answer(benchmark: Benchmark, check: Check) -> None:
    items = benchmark({"question": SHORT, "answer": "the Seine"})
    inside = f"{AROUND} I wonder which river flows through the middle of paris and also of Rouen {AROUND}"
    answered = f"{AROUND} I wonder which river flows through the middle of paris and is it the Seine {AROUND}"
    metrics, output = check([f"{AROUND}. {SHORT} {AROUND}", inside, answered], items)
    assert metrics["contaminated"] == 2
    assert {document.url for document in read_documents(output) if document.text == inside} == {"1"}


def test_what_anybody_says_is_not_looked_for_and_reported_so(benchmark: Benchmark, check: Check) -> None:
    metrics, output = check([f"{GREETING}\nI am fine.\n{AROUND}"], benchmark({"id": "hello", "text": GREETING}))
    assert (metrics["contaminated"], metrics["checked"]) == (0, 0)
    (item,) = json.loads((output / "report.json").read_text(encoding="utf-8"))["items"]
    assert item == {"id": "bench.jsonl/hello", "state": "too_short", "documents": 0, "coverage": 0.0}


def test_a_very_short_question_counts_only_as_a_sentence_with_its_answer(benchmark: Benchmark, check: Check) -> None:
    items = benchmark({"question": "Who wrote Faust?", "answer": "Johann Wolfgang von Goethe the poet"})
    texts = [
        f"{AROUND}. Who wrote Faust? Johann Wolfgang von Goethe, the poet. {AROUND}",
        f"{AROUND}. Who wrote Faust? I do not know. {AROUND}",
        f"{AROUND} guess who wrote faust johann wolfgang von goethe the poet {AROUND}",
    ]
    metrics, output = check(texts, items)
    assert metrics["contaminated"] == 1
    assert sum("wrote" in document.text for document in read_documents(output)) == 2


def test_a_form_of_words_that_many_items_share_proves_nothing(benchmark: Benchmark, check: Check) -> None:
    form = "Please answer the following question in one short sentence and give the reason for what you say:"
    items = benchmark(*({"question": f"{form} {make_text('en', 100 + seed, 30)}"} for seed in range(30)))
    metrics, _ = check([f"{AROUND}\n{form}\n{AROUND}"], items)
    assert (metrics["contaminated"], metrics["checked"]) == (0, 30)


def test_half_of_an_item_far_from_the_other_half_is_no_leak(benchmark: Benchmark, check: Check) -> None:
    words = [make_text("en", 50 + seed, 12) for seed in range(60)]
    item = " ".join(words)
    pieces = [" ".join(words[at : at + 15]) for at in range(0, 60, 15)]
    config = DecontaminateConfig(coverage=0.5, filler=1.0, probes=0)
    apart = (" " + AROUND + " ").join(pieces)
    assert check([apart], benchmark({"text": item}), config)[0]["contaminated"] == 0
    assert check(["\n".join(pieces)], benchmark({"text": item}), config, "near")[0]["contaminated"] == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_clean_prose_is_left_alone(lang: str, benchmark: Benchmark, check: Check) -> None:
    size = {"en": 400, "zh": 120}[lang]
    items = benchmark(*({"text": make_text(lang, seed, size // 4)} for seed in range(200)))
    texts = [make_text(lang, 10_000 + seed, size) for seed in range(1500)]
    assert check(texts, items)[0]["contaminated"] == 0


def test_every_probe_is_found_in_every_disguise(benchmark: Benchmark, check: Check) -> None:
    rows = [{"question": make_text("en", seed, 60 + seed), "options": OPTIONS, "answer": "B"} for seed in range(60)]
    rows += [{"text": make_text("zh", seed, 12 + seed)} for seed in range(60)]
    metrics, output = check([AROUND], benchmark(*rows), DecontaminateConfig(probes=120))
    probes = json.loads((output / "report.json").read_text(encoding="utf-8"))["probes"]
    assert probes["missed"] == []
    assert metrics["recall"] == metrics["recall_wrapped"] == metrics["recall_embedded"] == 1
    assert metrics["recall_other_script"] == metrics["recall_verbatim"] == 1
    assert probes["disguises"]["wrapped"] == {"planted": metrics["checked"], "found": metrics["checked"]}
    assert (metrics["false_hits"], probes["clean"]) == (0, metrics["checked"])


def test_held_out_dialogues_are_found_by_their_turns(tmp_path: Path) -> None:
    turns = [make_text("en", seed, 120) for seed in range(4)]
    roles = ("user", "assistant", "user", "assistant")
    messages = tuple({"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True))
    (tmp_path / "i").mkdir()
    write_instructions(tmp_path / "i" / "held_out.arrow", [Instruction("7", "en", "chat", messages)])
    page = (
        AROUND + "\n" + "\n".join(f"Speaker {number % 2}: {turn}" for number, turn in enumerate(turns)) + "\n" + AROUND
    )
    documents = write_artifact(tmp_path / "documents", [make_document("page", page)])
    context = local_context("decontaminate", tmp_path / "run")
    decontaminate(context, DecontaminateConfig(), documents, instructions=tmp_path / "i")
    report = json.loads((context.output / "report.json").read_text(encoding="utf-8"))
    assert report["items"] == [{"id": "instructions/7", "state": "checked", "documents": 1, "coverage": 1.0}]
    (document,) = read_documents(context.output)
    assert not any(turn in document.text for turn in turns)


@pytest.mark.parametrize("workers", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_workers_or_order(tmp_path: Path, benchmark: Benchmark, workers: int) -> None:
    items = benchmark(*({"text": make_text("en", seed, 100)} for seed in range(9)))
    texts = [AROUND + make_text("en", seed, 100) + f" {seed}" for seed in range(30)]
    made = [make_document(f"{number}", text) for number, text in enumerate(texts)]
    one, other = write_artifact(tmp_path / "a", made), write_artifact(tmp_path / "b", random.Random(1).sample(made, 30))
    config = DecontaminateConfig(probes=3)
    decontaminate(local_context("decontaminate", tmp_path / "one"), config, one, benchmarks=items)
    with parallel_context("decontaminate", tmp_path / "many", workers) as context:
        decontaminate(context, config, other, benchmarks=items)
    assert bytes_of(tmp_path / "one" / "output") == bytes_of(tmp_path / "many" / "output")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"options": ["a"]}, '"text" is missing'),
        ({"question": "?", "options": "a"}, '"options" is no list of texts'),
        ({"question": "What?", "options": ["a"], "answer": 3}, '"answer" is option 3 of 1'),
        ({"text": " "}, '"text" is empty'),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_by_its_line(
    row: dict[str, object], told: str, benchmark: Benchmark, check: Check
) -> None:
    with pytest.raises(StepError, match=told) as caught:
        check([AROUND], benchmark({"text": "A good row."}, row))
    assert "bench.jsonl, line 2" in caught.value.where


def test_nothing_to_look_for_is_refused(tmp_path: Path) -> None:
    documents = write_artifact(tmp_path / "documents", [make_document("a", AROUND)])
    with pytest.raises(StepError, match="no evaluation item"):
        decontaminate(local_context("decontaminate", tmp_path / "run"), DecontaminateConfig(), documents)


def test_a_folder_without_benchmarks_is_refused(tmp_path: Path, check: Check) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StepError, match=r"no \*.jsonl file"):
        check([AROUND], tmp_path / "empty")


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"action": "hide"}, "decontaminate.action"),
        ({"coverage": 0.0}, "decontaminate.coverage"),
        ({"words": 1}, "decontaminate.words"),
        ({"min_words": 14}, "decontaminate.min_words"),
        ({"filler": 0.5}, "decontaminate.filler"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(setting: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DecontaminateConfig(**setting)
    assert caught.value.where == key
