"""The whole pretraining step: what it writes, that it learns, that it continues, that ranks agree."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.context import local_context
from components.errors import Preempted, StepError
from components.model.config import ModelConfig
from components.model.huggingface import load_transformer
from components.pretrain.step import pretrain


def vary(config, **changes):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def start(config, world, folder):
    context = local_context("pretrain", folder, config.seed)
    return pretrain(context, config, tokens=world.tokens, tokenizer=world.tokenizer), context.output


def journal(folder, kind):
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    from tests.components.pretrain.conftest import CONFIG

    folder = tmp_path_factory.mktemp("trained")
    metrics, output = start(CONFIG, world, folder)
    return metrics, output, folder


def test_it_returns_what_it_measured(trained):
    metrics, _, _ = trained
    assert set(metrics) == {
        "val_bpb",
        "train_loss",
        "steps",
        "skipped",
        "tokens",
        "epochs",
        "tokens_per_second",
        "parameters",
    }
    assert metrics["steps"] == 12
    assert metrics["tokens"] == 12 * 8 * 32
    assert metrics["skipped"] == 0


def test_it_learns(trained):
    metrics, output, _ = trained
    curve = json.loads((output / "curve.json").read_text())
    assert [row["step"] for row in curve] == [6, 12]
    assert curve[1]["val_bpb"] == metrics["val_bpb"] < curve[0]["val_bpb"]
    assert metrics["train_loss"] < math.log(320) - 1


def test_transformers_loads_the_folder_and_computes_the_same_logits(trained):
    _, output, _ = trained
    tokens_BT = torch.tensor([[1, 20, 30, 40, 50]])
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(output / "model")(tokens_BT).logits
        ours = load_transformer(output / "model")(tokens_BT)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert AutoTokenizer.from_pretrained(output / "model").encode("one two")


def test_it_writes_samples_at_every_evaluation_and_keeps_the_last(trained):
    _, output, folder = trained
    kept = json.loads((output / "samples.json").read_text(encoding="utf-8"))
    assert kept["step"] == 12
    assert [sample["prompt"] for sample in kept["samples"]] == ["one two", "你好"]
    texts = [line for line in journal(folder, "text") if line["name"] == "sample"]
    assert [line["step"] for line in texts] == [6, 12]
    assert texts[-1]["text"].startswith("one two|")


def test_the_same_settings_give_the_same_bytes(trained, world, config, tmp_path):
    _, output, _ = trained
    _, again = start(config, world, tmp_path)
    for name in ("model/model.safetensors", "curve.json", "samples.json"):
        assert (again / name).read_bytes() == (output / name).read_bytes()


def test_stopped_and_run_again_it_gives_the_same_bytes(trained, world, config, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Preempted):
        start(config, world, tmp_path)
    (tmp_path / "stop").unlink()
    _, again = start(config, world, tmp_path)
    _, output, _ = trained
    assert (again / "model/model.safetensors").read_bytes() == (output / "model/model.safetensors").read_bytes()
    assert (again / "curve.json").read_bytes() == (output / "curve.json").read_bytes()


def test_run_again_after_its_last_checkpoint_it_only_publishes(trained, world, config, tmp_path):
    _, first = start(config, world, tmp_path)
    content = {name: (first / name).read_bytes() for name in ("model/model.safetensors", "samples.json")}
    (first / "model/model.safetensors").unlink()
    start(config, world, tmp_path)
    assert content == {name: (first / name).read_bytes() for name in content}
    assert len([line for line in journal(tmp_path, "metrics") if "loss" in line["values"]]) == 3


def test_two_ranks_with_zero_learn_the_same(trained, world, config, tmp_path):
    _, output, _ = trained
    _, sharded = start(vary(config, engine="deepspeed", ranks=2, zero_stage=1), world, tmp_path)
    curve, expected = (json.loads((folder / "curve.json").read_text()) for folder in (sharded, output))
    for row, same in zip(curve, expected, strict=True):
        assert row == pytest.approx(same, rel=1e-4)


def test_a_model_with_too_few_rows_for_the_tokenizer_is_refused(world, config, tmp_path):
    small = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=100))
    with pytest.raises(StepError, match="has 320 tokens, the model has room for 100"):
        start(small, world, tmp_path)


def test_a_split_that_fills_no_row_is_refused(world, config, tmp_path):
    long = dataclasses.replace(config, length=50_000, model=ModelConfig(max_length=50_000), sample_tokens=0)
    with pytest.raises(StepError):
        start(long, world, tmp_path)
