"""The whole pretraining step: what it writes, that it learns, that it continues, that ranks agree."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.context import local_context
from components.errors import Preempted, StepError
from components.model.config import ModelConfig
from components.model.huggingface import load_transformer
from components.model.native import why_not
from components.pack.config import PackConfig
from components.pack.step import pack
from components.pretrain.step import pretrain
from components.shards.config import MixtureConfig
from components.shards.inverse import documents_at, visits
from components.shards.schedule import Schedule


def vary(config, **changes):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


def start(config, world, folder, rows=None):
    context = local_context("pretrain", folder, config.seed)
    metrics = pretrain(context, config, tokens=world.tokens, tokenizer=world.tokenizer, rows=rows)
    return metrics, context.output


def packed(world, folder, **settings):
    context = local_context("pack", folder)
    pack(context, PackConfig(length=32, **settings), world.tokens)
    return context.output


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
        "goodput",
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


def test_threads_that_read_ahead_change_no_byte(trained, world, config, tmp_path):
    _, output, _ = trained
    _, again = start(dataclasses.replace(config, loader_threads=2), world, tmp_path)
    assert (again / "model/model.safetensors").read_bytes() == (output / "model/model.safetensors").read_bytes()


def test_a_plan_that_joins_all_documents_trains_as_no_plan_does(trained, world, config, tmp_path):
    _, output, _ = trained
    _, planned = start(config, world, tmp_path, packed(world, tmp_path / "pack"))
    assert (planned / "model/model.safetensors").read_bytes() == (output / "model/model.safetensors").read_bytes()


def test_padded_rows_of_a_mixture_are_learned_from(world, config, tmp_path):
    rows = packed(world, tmp_path / "pack", strategy="document", group="source")
    mixed = dataclasses.replace(config, mixture=MixtureConfig({"test": "1"}))
    metrics, output = start(mixed, world, tmp_path, rows)
    assert metrics["train_loss"] < math.log(320) - 1
    order = json.loads((output / "order.json").read_text(encoding="utf-8"))
    assert order["mixture"] == {"changes": {}, "weights": {"test": "1"}}


def test_what_a_step_read_is_known_from_the_artifact(trained, world):
    _, output, _ = trained
    order = json.loads((output / "order.json").read_text(encoding="utf-8"))
    assert order["steps"] == 12
    schedule = Schedule.from_json(order)
    seen = {seen.doc_id: seen.visit for seen in documents_at(world.tokens, None, schedule, 5)}
    for doc_id, visit in seen.items():
        assert visit in visits(world.tokens, None, doc_id, schedule, order["steps"])


@pytest.mark.parametrize(("place", "verify"), [(-2000, "full"), (None, "quick")])
def test_a_damaged_shard_is_refused_by_name_before_the_first_step(world, config, tmp_path, place, verify):
    tokens = shutil.copytree(world.tokens, tmp_path / "tokens")
    path = tokens / "train" / "shard-00000.arrow"
    content = bytearray(path.read_bytes())
    if place is None:
        content = content[:-100]
    else:
        content[place] ^= 1
    path.write_bytes(content)
    damaged = dataclasses.replace(world, tokens=tokens)
    with pytest.raises(StepError, match=r"train/shard-00000\.arrow"):
        start(dataclasses.replace(config, verify=verify), damaged, tmp_path / "run")


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


def test_the_journal_tells_how_documents_are_kept_apart(trained, config, world, tmp_path):
    start(vary(dataclasses.replace(config, document_mask=True), steps=1, warmup_steps=0), world, tmp_path)
    [said] = [line["text"] for line in journal(tmp_path, "text") if line["name"] == "attention"]
    assert f"kept apart by {'a block-diagonal mask, because' if why_not() else 'our own kernel'}" in said
    assert not [line for line in journal(trained[2], "text") if line["name"] == "attention"]
