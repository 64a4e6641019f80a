"""The recipes pretrain, encoder and translate as a user meets them: planned by one word, refused early, run, shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import ConfigError
from pipelines.cli import main
from pipelines.config import load_settings
from pipelines.engine.store import Store
from pipelines.runs import all_runs
from pipelines.verbs.planning import plan_of, steps_of

QUICK = ["preset=micro", "cluster=inprocess"]


def planned(*overrides: str) -> dict[str, tuple[str, ...]]:
    """The steps of a recipe with what they read."""
    return {step.name: step.producers for step in steps_of(load_settings(overrides))}


def test_pretrain_is_the_data_path_a_model_and_its_score() -> None:
    steps = planned("recipe=pretrain")
    assert steps["pretrain"] == ("tokens", "tokenizer", "pack")
    assert steps["evaluate_base"] == ("pretrain", "tokens", "tokenizer", "dedup")
    assert not steps.keys() & {"sft", "reward", "ppo", "instructions", "preferences"}


def test_pretrain_with_another_objective_is_scored_where_it_learns() -> None:
    words = ["recipe=pretrain", "pretrain.objective=span", "pretrain.model.family=encoder-decoder"]
    steps = planned(*words, "pretrain.model.num_kv_heads=6", "tokenizer.masks=13")
    assert "evaluate_base" not in steps


def test_encoder_is_one_word_and_makes_an_encoder() -> None:
    steps = planned("recipe=encoder")
    assert steps["classify"] == ("pretrain", "labelled")
    assert steps["classify_scratch"] == ("pretrain", "labelled")
    assert steps["evaluate_classifier"] == ("classify", "labelled", "classify_scratch")
    for preset in ("tiny", "micro", "gpu1"):
        settings = load_settings(["recipe=encoder", f"preset={preset}"])
        model = settings.pretrain.model
        assert (model.family, settings.pretrain.objective, settings.tokenizer.masks) == ("eurobert", "masked", 1)


def test_translate_crawls_nothing() -> None:
    steps = planned("recipe=translate")
    assert list(steps) == ["pairs", "tokenizer", "translate", "evaluate_translation"]
    assert steps["translate"] == ("pairs", "tokenizer")


def test_the_chat_recipe_is_planned_as_before_and_knows_nothing_of_the_others() -> None:
    steps = planned()
    assert list(steps) == list(planned("recipe=chat"))
    assert len(steps) == 19


def test_a_preset_fits_a_recipe_only_where_there_is_something_to_fit() -> None:
    assert load_settings(["recipe=translate"]).tokenizer.vocab_size == 2048
    assert load_settings(["recipe=pretrain"]).tokenizer.vocab_size == 8192
    assert load_settings(["recipe=translate", "preset=micro"]).pairs.num_pairs == 1500


def test_a_seed_reaches_the_steps_of_the_recipes() -> None:
    settings = load_settings(["recipe=translate", "seed=5"])
    assert (settings.pairs.seed, settings.translate.seed) == (5, 5)
    assert load_settings(["recipe=encoder", "seed=5"]).classify.seed == 5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["recipe=encode"], "there is no recipe 'encode'"),
        (["recipe=encoder", "tokenizer.masks=0"], "tokenizer.masks=0 are fewer"),
        (["recipe=encoder", "pretrain.objective=next-token"], "cannot be learned by pretrain.model.family=eurobert"),
        (
            [
                "recipe=encoder",
                "pretrain.objective=next-token",
                "pretrain.model.family=gpt2",
            ],
            "is not what recipe=encoder builds on",
        ),
        (["recipe=encoder", "source=files", f"source.paths=[{__file__}]"], "source.labelled"),
        (["recipe=translate", "source.pairs=nowhere.jsonl"], "is not a file"),
        (["recipe=translate", "translate.model.family=llama"], "reads no source"),
        (["pretrain.model.family=bert"], "cannot be learned"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_settings(overrides)
    assert words in f"{refusal.value.what} {refusal.value.where}"
    assert refusal.value.fix


def artifact(store: Path, step: str) -> Path:
    opened = Store(store)
    made = opened.newest(step)
    assert made is not None
    return opened.fetch(made)


def run(store: Path, *words: str) -> None:
    assert main(["run", *QUICK, "tracking=off", f"store={store}", *words]) == 0


def again(store: Path, *words: str) -> int:
    _, plan = plan_of(load_settings([*QUICK, f"store={store}", *words]))
    return len(plan.to_run)


def test_translate_runs_shows_its_scores_and_is_cached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"source": f"item {number}", "target": f"第{number}项"} for number in range(300)]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ["recipe=translate", f"source.pairs={file}", "tokenizer.kind=character", "tokenizer.vocab_size=264"]
    words += ["translate.training.ranks=1", "translate.training.engine=plain", "translate.training.steps=20"]
    run(tmp_path / "store", *words)
    said = capsys.readouterr().out
    for word in ("written by", "BLEU", "beam 2", "greedy", "nearest", "copy", "next: headwater ui"):
        assert word in said
    report = (all_runs(tmp_path / "store")[0] / "report.md").read_text(encoding="utf-8")
    assert "Translation of" in report
    assert "Translations" in report
    assert again(tmp_path / "store", *words) == 0
    file.write_text("\n".join(map(json.dumps, rows[1:])), encoding="utf-8")
    assert again(tmp_path / "store", *words) == 4


@pytest.mark.slow  # crawls, pretrains and fine-tunes: about 40 s
def test_encoder_runs_to_a_classifier_that_transformers_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    run(tmp_path, "recipe=encoder")
    said = capsys.readouterr().out
    for word in ("pre-trained encoder", "encoder from scratch", "bag of words", "most frequent label"):
        assert word in said
    base = AutoModelForMaskedLM.from_pretrained(artifact(tmp_path, "pretrain") / "model")
    classifier = AutoModelForSequenceClassification.from_pretrained(artifact(tmp_path, "classify") / "model")
    assert type(base).__name__ == "EuroBertForMaskedLM"
    assert type(classifier).__name__ == "EuroBertForSequenceClassification"
    assert classifier.config.id2label == {0: "negative", 1: "positive"}
    assert again(tmp_path, "recipe=encoder") == 0
    changed = {
        entry.name
        for entry in plan_of(load_settings([*QUICK, f"store={tmp_path}", "recipe=encoder", "classify.dropout=0.2"]))[
            1
        ].to_run
    }
    assert changed == {"classify", "classify_scratch", "evaluate_classifier"}


@pytest.mark.slow  # crawls and pretrains: about 30 s
def test_pretrain_ends_with_bits_per_byte_beside_byte_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "recipe=pretrain", "pretrain.training.steps=30", "pretrain.document_mask=true")
    said = capsys.readouterr().out
    for word in ("base", "unigram", "order3", "bits per byte"):
        assert word in said
    scores = json.loads((artifact(tmp_path, "evaluate_base") / "scores.json").read_text())
    curve = json.loads((artifact(tmp_path, "pretrain") / "curve.json").read_text())
    assert scores["base"]["bpb"] == pytest.approx(curve[-1]["val_bpb"], rel=1e-4)
    assert again(tmp_path, "recipe=pretrain", "pretrain.training.steps=30", "pretrain.document_mask=true") == 0
