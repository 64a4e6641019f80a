"""Pretraining that goes on from a model folder: ours, or one of a type that is not ours."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from components.channel import Channel
from components.context import Rank, local_context
from components.errors import StepError
from components.model.config import ModelConfig
from components.model.external import ExternalModel
from components.model.huggingface import copy_tokenizer, load_transformer
from components.model.language import load_language_model
from components.pretrain.step import pretrain
from components.pretrain.worker import _costs
from components.tokenizer.load import TextTokenizer
from tests.components.pretrain.conftest import CONFIG


def run(config, world, folder, start=None):
    context = local_context("pretrain", folder, config.seed)
    metrics = pretrain(context, config, tokens=world.tokens, tokenizer=world.tokenizer, start=start)
    return metrics, context.output


def few(steps, lr=1e-2, **changes):
    training = dataclasses.replace(CONFIG.training, steps=steps, lr=lr, eval_every=0, warmup_steps=0)
    return dataclasses.replace(CONFIG, training=training, **changes)


@pytest.fixture(scope="module")
def first(world, tmp_path_factory):
    """Twelve steps from scratch."""
    return run(few(12), world, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def neox(world, tmp_path_factory):
    """A GPT-NeoX of transformers with the corpus's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    vocab_size = TextTokenizer.from_folder(world.tokenizer).vocab_size
    config = AutoConfig.for_model("gpt_neox", vocab_size=vocab_size, max_position_embeddings=40, **size)
    folder = tmp_path_factory.mktemp("neox")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    copy_tokenizer(world.tokenizer, folder, vocab_size)
    return folder


def test_a_model_of_ours_goes_on_where_it_ended_in_its_own_shape(first, world, tmp_path):
    before, base = first
    other = dataclasses.replace(few(2, lr=1e-9), model=ModelConfig(dim=96), init=str(base / "model"))
    metrics, output = run(other, world, tmp_path)
    assert metrics["val_bpb"] == pytest.approx(before["val_bpb"], abs=1e-4)
    assert load_transformer(output / "model").config == load_transformer(base / "model").config
    said = (tmp_path / "journal.jsonl").read_text(encoding="utf-8")
    assert "pretrain.model is not used" in said
    further, _ = run(dataclasses.replace(few(12), init="given"), world, tmp_path / "on", start=base / "model")
    assert further["val_bpb"] < before["val_bpb"]


@pytest.mark.parametrize("document_mask", [False, True])
def test_a_foreign_type_learns_writes_and_stays_what_it_is(neox, world, tmp_path, document_mask):
    from transformers import AutoModelForCausalLM

    config = few(6, init=str(neox), document_mask=document_mask)
    untrained, _ = run(dataclasses.replace(few(1, lr=1e-9), init=str(neox)), world, tmp_path / "untrained")
    metrics, output = run(config, world, tmp_path)
    assert metrics["val_bpb"] < untrained["val_bpb"] - 0.5
    model = load_language_model(output / "model").eval()
    assert isinstance(model, ExternalModel)
    tokens = torch.arange(10, 30)[None]
    assert (AutoModelForCausalLM.from_pretrained(output / "model")(tokens).logits - model(tokens)).abs().max() < 1e-5
    samples = json.loads((output / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert [sample["prompt"] for sample in samples] == list(CONFIG.samples)


def test_its_arithmetic_feeds_the_metrics_or_a_sentence_says_why_not(neox, world, tmp_path):
    model, rank = load_language_model(neox), Rank(0, 1, 0, "cpu", Channel(tmp_path))
    layers, projected = 2 * (4 * 32 * 32 + 2 * 32 * 64), model.config.vocab_size * 32
    assert _costs(model, 40, rank) == {
        "palm": 6 * (layers + projected) + 12 * 2 * 32 * 40,
        "causal": 6 * (layers + projected) + 6 * 2 * 32 * 40,
    }
    model.inner.config.layer_types = ["linear_attention"] * 2
    assert _costs(model, 40, rank) == {}
    [line] = (tmp_path / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["text"].startswith("mfu is left out: the arithmetic of a token is not known, for it has")


def test_rows_longer_than_the_model_reads_are_refused_before_ranks_start(neox, world, tmp_path):
    with pytest.raises(StepError, match="at most 40 tokens"):
        run(few(2, init=str(neox), length=41), world, tmp_path)


def test_tokens_of_another_tokenizer_are_refused(neox, world, tmp_path, byte_tokenizer):
    shutil.copytree(neox, tmp_path / "model")
    shutil.copyfile(byte_tokenizer / "tokenizer.json", tmp_path / "model" / "tokenizer.json")
    with pytest.raises(StepError, match="another tokenizer than that of the model") as caught:
        run(few(2, init=str(tmp_path / "model")), world, tmp_path / "run")
    assert "tokenizer.path=" in caught.value.fix
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(StepError, match="has no tokenizer"):
        run(few(2, init=str(tmp_path / "model")), world, tmp_path / "run")


def test_an_objective_that_the_model_cannot_learn_is_refused(first, world, tmp_path):
    _, base = first
    with pytest.raises(StepError, match="cannot learn the objective span"):
        run(few(2, init=str(base / "model"), objective="span"), world, tmp_path)


def test_its_content_enters_the_key_and_its_place_does_not(first, tmp_path):
    from pipelines.engine.step import Recipe
    from pipelines.recipes.start import GIVEN, with_start

    base = first[1] / "model"
    for name in ("a", "b", "c"):
        shutil.copytree(base, tmp_path / name)
    path = tmp_path / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    shape = ModelConfig(dim=96)
    made = [
        with_start(Recipe("test"), dataclasses.replace(few(2, init=str(tmp_path / name)), model=shape))
        for name in ("a", "b", "c")
    ]
    (config, a), (_, b), (_, c) = made
    assert config.init == GIVEN
    assert config.model == ModelConfig()
    assert a.digest == b.digest
    assert a.digest != c.digest
