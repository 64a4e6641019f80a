"""Model types that are not ours, through transformers' own code: the same calls, the same numbers, the same folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from components.errors import StepError
from components.model.config import SamplingConfig
from components.model.external import ExternalModel, ExternalScalar
from components.model.generate import generate
from components.model.language import (
    load_language_model,
    load_scalar_model,
    logits_at,
    save_language_model,
    scalar_from,
)
from components.model.transformer import Transformer

VOCAB = 263
SIZE = {"vocab_size": VOCAB, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 96}
TYPES = {
    "qwen2": {
        **SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "gpt_neox": {**SIZE, "hidden_size": 32, "intermediate_size": 48, "tie_word_embeddings": False},
    "opt": {**SIZE, "hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 24, "dropout": 0.0},
    "gemma2": {
        **SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "final_logit_softcapping": 2.0,
        "sliding_window": 8,
    },
}
"""Tied with grouped queries; untied and partly rotary; projected embeddings; capped logits and a sliding window."""


def make(model_type: str, folder: Path):
    """A random model of transformers in a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **TYPES[model_type]))
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=TYPES)
def pair(request, tmp_path_factory):
    """A folder, transformers' model of it and ours."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, make(request.param, folder), load_language_model(folder).eval()


def draw(*shape: int, seed: int = 5):
    return torch.randint(7, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def test_logits_and_summed_loss_are_those_of_transformers(pair):
    _, other, model = pair
    assert isinstance(model, ExternalModel)
    tokens = draw(3, 30)
    targets = torch.cat([tokens[:, 1:], torch.full((3, 1), -100)], dim=1)
    targets[0, :9] = -100
    theirs = other(tokens).logits
    assert (model(tokens) - theirs).abs().max() < 1e-5
    loss = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(model(tokens, targets), loss, rtol=1e-6, atol=1e-5)
    mask = targets != -100
    assert (logits_at(model, tokens, mask) - theirs[mask]).abs().max() < 1e-5


def test_documents_of_a_packed_row_are_scored_as_if_alone(pair):
    _, other, model = pair
    lengths = (11, 20, 5)
    documents = [draw(1, length, seed=length) for length in lengths]
    segments = torch.tensor([[number for number, length in enumerate(lengths) for _ in range(length)]])
    packed = model(torch.cat(documents, dim=1), segments_BT=segments)
    alone = torch.cat([other(document).logits for document in documents], dim=1)
    assert (packed - alone).abs().max() < 1e-5


def test_greedy_replies_are_those_of_transformers_in_a_ragged_batch(pair):
    _, other, model = pair
    prompts = [draw(1, length, seed=length)[0].tolist() for length in (3, 9, 6)]
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=8)
    replies = generate(model, prompts, sampling, set(), [0, 0, 0])
    for prompt, reply in zip(prompts, replies, strict=True):
        tokens = torch.tensor([prompt])
        for _ in range(8):
            tokens = torch.cat([tokens, other(tokens).logits[:, -1:].argmax(-1)], dim=1)
        assert reply.tokens == tokens[0, len(prompt) :].tolist()


def test_the_sampler_knows_the_log_probability_of_what_it_drew_while_rows_end(pair):
    _, other, model = pair
    prompts = [draw(1, length, seed=length)[0].tolist() for length in (4, 9, 3, 7, 5, 8)]
    replies = generate(model, prompts, SamplingConfig(max_new_tokens=8), set(range(90)), list(range(6)))
    assert len({len(reply.tokens) for reply in replies}) > 2
    for prompt, reply in zip(prompts, replies, strict=True):
        logits = other(torch.tensor([prompt + reply.tokens])).logits[0, len(prompt) - 1 : -1]
        exact = logits.log_softmax(-1).gather(1, torch.tensor(reply.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(reply.log_probs), exact.detach(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shard_bytes", [0, 20_000])
def test_a_folder_goes_back_to_transformers_with_its_ties(pair, shard_bytes, tmp_path, byte_tokenizer):
    from transformers import AutoModelForCausalLM

    _, other, model = pair
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}  # what an engine gathers
    assert save_language_model(model.config, weights, tmp_path, byte_tokenizer, shard_bytes=shard_bytes) == ""
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) is bool(shard_bytes)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = draw(2, 20)
    assert type(again) is type(other)
    assert torch.equal(again(tokens).logits, other(tokens).logits)
    embedding, output = again.get_input_embeddings().weight, again.get_output_embeddings().weight
    assert (embedding is output) is (other.get_input_embeddings().weight is other.get_output_embeddings().weight)
    assert json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == [2, 6]
    assert torch.equal(load_language_model(tmp_path).eval()(tokens), model(tokens))


def test_a_reward_model_is_a_sequence_classifier_of_its_type(pair, tmp_path, byte_tokenizer):
    from transformers import AutoModelForSequenceClassification

    _, other, model = pair
    scalar = scalar_from(model, torch.Generator().manual_seed(1)).eval()
    assert isinstance(scalar, ExternalScalar)
    tokens = draw(3, 12)
    values = scalar(tokens)
    expected = other.base_model(tokens)[0] @ scalar.inner.score.weight[0]
    assert (values - expected).abs().max() < 1e-5
    assert values.std() > 0
    save_language_model(scalar.config, scalar.state_dict(), tmp_path, byte_tokenizer)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.num_labels == 1
    assert (again(tokens).logits[:, 0] - values[:, -1]).abs().max() < 1e-5
    assert torch.equal(load_scalar_model(tmp_path).eval()(tokens), values)


def test_training_moves_it_as_transformers_moves_it(pair, tmp_path):
    folder, _, _ = pair
    from transformers import AutoModelForCausalLM

    model, other = load_language_model(folder).train(), AutoModelForCausalLM.from_pretrained(folder).train()
    tokens = draw(2, 16)
    targets = torch.cat([tokens[:, 1:], torch.full((2, 1), -100)], dim=1)
    (model(tokens, targets) / 30).backward()
    other(tokens, labels=tokens).loss.backward()
    gradients = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        theirs = gradients[name.removeprefix("inner.")].grad
        assert (parameter.grad - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


def test_a_type_of_ours_with_a_setting_that_is_not_runs_in_the_code_of_transformers(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {**TYPES["qwen2"], "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(tmp_path)
    assert isinstance(load_language_model(tmp_path), ExternalModel)
    del settings["rope_parameters"]
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(tmp_path)
    assert isinstance(load_language_model(tmp_path), Transformer)


def test_a_folder_that_wants_its_own_code_is_refused(tmp_path):
    values = {"model_type": "mystery", "auto_map": {"AutoModelForCausalLM": "modeling.Mystery"}}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (tmp_path / "modeling.py").write_text("raise SystemExit('this code must never run')", encoding="utf-8")
    with pytest.raises(StepError, match="cannot be loaded by transformers"):
        load_language_model(tmp_path)


def test_weights_that_miss_a_tensor_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    make("gpt_neox", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StepError, match="dense_h_to_4h"):
        load_language_model(tmp_path)


def test_a_bert_is_no_language_model(tmp_path, byte_tokenizer):
    from components.model.config import ModelConfig
    from components.model.huggingface import save_model

    config = ModelConfig(family="bert", vocab_size=VOCAB, dim=16, num_layers=1, num_heads=2, num_kv_heads=2, ffn_dim=16)
    save_model(Transformer(config), tmp_path, byte_tokenizer)
    with pytest.raises(StepError, match="both directions"):
        load_language_model(tmp_path)


def test_packed_rows_go_through_whole_where_a_mask_of_documents_is_exact(pair):
    _, _, model = pair
    seen = []
    hook = model.inner.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    segments = torch.tensor([[1] * 7 + [2] * 13 + [3] * 4])
    model.hidden(draw(1, 24), segments_BT=segments)
    hook.remove()
    window = model.config.model_type == "gemma2"  # a mask would open its sliding window
    assert seen == [torch.Size([3, 13]) if window else torch.Size([1, 24])]
