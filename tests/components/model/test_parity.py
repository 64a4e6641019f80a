"""Every class we can be written as and read from, with transformers as the judge: logits, loss, one optimizer step.

Both sides compute in double precision: in single, two correct orders of summation differ by about as much as the
tolerance. Parameters are all drawn, norms and biases too, so that one in the wrong place shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.errors import StepError
from components.model.config import ModelConfig
from components.model.encoder_decoder import EncoderDecoder
from components.model.heads import ClassifierModel, ScalarModel
from components.model.huggingface import (
    load_classifier,
    load_encoder_decoder,
    load_scalar,
    load_transformer,
    read_config,
    save_model,
    to_hugging_face,
)
from components.model.transformer import Transformer, build_model

VOCAB = 263
SIZE = {"vocab_size": VOCAB, "dim": 32, "num_layers": 2, "num_heads": 4, "ffn_dim": 48, "max_length": 64}
MANY = {**SIZE, "num_kv_heads": 4}
ROPE = {**SIZE, "num_kv_heads": 2, "rope_theta": 500.0, "rope_factor": 4.0, "rope_original_length": 16}
T5 = {
    **MANY,
    "family": "encoder-decoder",
    "positions": "t5",
    "norm": "rmsnorm",
    "post_norm": False,
    "bias": False,
    "scale_embeddings": False,
    "scale_attention": False,
    "relative_buckets": 8,
    "relative_max_distance": 20,
    "num_encoder_layers": 1,
    "head_width": 12,
}
BART = {**MANY, "family": "encoder-decoder", "positions": "learned", "activation": "gelu", "embed_norm": True}

OURS = {
    "llama": ("LlamaForCausalLM", ModelConfig(**SIZE, num_kv_heads=2)),
    "llama-untied-bias": (
        "LlamaForCausalLM",
        ModelConfig(**MANY, tie_embeddings=False, bias=True, head_width=12, activation="geglu"),
    ),
    "llama-one-kv-head": ("LlamaForCausalLM", ModelConfig(**SIZE, num_kv_heads=1, norm_eps=1e-6)),
    "llama3": ("LlamaForCausalLM", ModelConfig(**ROPE, rope_scaling="llama3", rope_low_freq=1.5)),
    "yarn": ("LlamaForCausalLM", ModelConfig(**ROPE, rope_scaling="yarn", rope_beta_fast=8.0)),
    "yarn-factor": ("LlamaForCausalLM", ModelConfig(**ROPE, rope_scaling="yarn", rope_attention_factor=1.3)),
    "qwen3": ("Qwen3ForCausalLM", ModelConfig(**SIZE, num_kv_heads=2, qk_norm=True, head_width=12)),
    "mixtral": (
        "MixtralForCausalLM",
        ModelConfig(**SIZE, num_kv_heads=2, num_experts=4, tie_embeddings=False, router_loss=0.1),
    ),
    "gpt2": ("GPT2LMHeadModel", ModelConfig(family="gpt2", **MANY)),
    "gpt2-untied-relu": (
        "GPT2LMHeadModel",
        ModelConfig(family="gpt2", **MANY, tie_embeddings=False, activation="relu"),
    ),
    "bloom": (
        "BloomForCausalLM",
        ModelConfig(
            family="gpt2",
            **MANY | {"dim": 48, "ffn_dim": 192, "num_heads": 6, "num_kv_heads": 6},
            positions="alibi",
            embed_norm=True,
        ),
    ),
    "bert": ("BertForMaskedLM", ModelConfig(family="bert", **MANY, num_token_types=2, norm_eps=1e-12)),
    "bert-untied": (
        "BertForMaskedLM",
        ModelConfig(family="bert", **MANY, num_token_types=1, tie_embeddings=False, activation="relu"),
    ),
    "eurobert": ("EuroBertForMaskedLM", ModelConfig(family="eurobert", **SIZE, num_kv_heads=2)),
    "eurobert-untied": (
        "EuroBertForMaskedLM",
        ModelConfig(family="eurobert", **MANY, tie_embeddings=False, activation="geglu"),
    ),
    "bart": ("BartForConditionalGeneration", ModelConfig(**BART, num_encoder_layers=1, scale_embeddings=False)),
    "bart-bias": ("BartForConditionalGeneration", ModelConfig(**BART, logits_bias=True)),
    "marian": ("MarianMTModel", ModelConfig(family="encoder-decoder", **MANY, activation="silu")),
    "t5": ("T5ForConditionalGeneration", ModelConfig(**T5, scale_output=True)),
    "t5-gated-untied": ("T5ForConditionalGeneration", ModelConfig(**T5, tie_embeddings=False, activation="geglu")),
}
"""Class and config of ours by name."""

BASE = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**BASE, "intermediate_size": 40, "num_key_value_heads": 2, "max_position_embeddings": 64}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 7}
SEQ2SEQ = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
SCALED = {"factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 300.0}
THEIRS = {
    "llama": ("Llama", "ForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "llama3": (
        "Llama",
        "ForCausalLM",
        {**LLAMA, "rope_parameters": {**SCALED, "rope_type": "llama3", "low_freq_factor": 1, "high_freq_factor": 5}},
    ),
    "yarn": ("Llama", "ForCausalLM", {**LLAMA, "rope_parameters": {**SCALED, "rope_type": "yarn"}}),
    "yarn-mscale": (
        "Llama",
        "ForCausalLM",
        {**LLAMA, "rope_parameters": {**SCALED, "rope_type": "yarn", "mscale": 1.0, "mscale_all_dim": 0.7}},
    ),
    "qwen3": ("Qwen3", "ForCausalLM", {**LLAMA, "head_dim": 12}),
    "mixtral": ("Mixtral", "ForCausalLM", {**LLAMA, "num_local_experts": 3}),
    "gpt2": ("GPT2", "LMHeadModel", {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "bloom": ("Bloom", "ForCausalLM", {"vocab_size": VOCAB, "hidden_size": 48, "n_layer": 2, "n_head": 3}),
    "bert": ("Bert", "ForMaskedLM", {**BASE, "intermediate_size": 40, "max_position_embeddings": 64}),
    "eurobert": ("EuroBert", "ForMaskedLM", {**LLAMA, **SPECIAL, "tie_word_embeddings": True}),
    "bart": ("Bart", "ForConditionalGeneration", {**SEQ2SEQ, "scale_embedding": True}),
    "marian": ("Marian", "MTModel", {**SEQ2SEQ, "activation_function": "swish"}),
    "t5": (
        "T5",
        "ForConditionalGeneration",
        {"vocab_size": VOCAB, "d_model": 32, "d_kv": 12, "d_ff": 40, "num_layers": 2, "num_heads": 4},
    ),
    "t5-gated": (
        "T5",
        "ForConditionalGeneration",
        {
            "vocab_size": VOCAB,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 40,
            "num_layers": 1,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
    ),
}
"""Begin and end of a class's name and settings of its config, by name."""

DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout")


def disturb(model: torch.nn.Module, seed: int = 3) -> None:
    """Draws every parameter that is trained anew: matrices N(0, 0.2), norms around 1, biases around 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() >= 2 and parameter.requires_grad:
            parameter.data = 0.2 * noise
        elif parameter.requires_grad:
            parameter.data = 0.3 * noise + (0.0 if name.endswith("bias") else 1.0)


def draw(*shape: int, seed: int = 5) -> Tensor:
    """Tokens that are text: transformers gives the padding token's embedding no gradient."""
    return torch.randint(7, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def labels_of(tokens: Tensor) -> Tensor:
    """Tokens to be predicted, every third of which is not scored."""
    labels = tokens.clone()
    labels.flatten()[::3] = -100
    return labels


def ours_says(model: Transformer | EncoderDecoder, length: int) -> tuple[Tensor, Tensor]:
    """Our logits, and our mean loss over the scored tokens."""
    tokens, labels = draw(3, length), labels_of(draw(3, length))
    if isinstance(model, EncoderDecoder):
        segments = padded(draw(3, 20, seed=8)) - 1
        logits = model(draw(3, 20, seed=8), tokens, source_segments_BS=segments)
        loss = model(draw(3, 20, seed=8), tokens, labels, source_segments_BS=segments)
    elif not model.config.causal:
        logits = model(tokens, segments_BT=padded(tokens) - 1)
        loss = model(tokens, labels.where(padded(tokens) > 0, -100), segments_BT=padded(tokens) - 1)
        labels = labels.where(padded(tokens) > 0, -100)
    else:
        labels = torch.cat([labels_of(tokens)[:, 1:], torch.full((3, 1), -100)], dim=1)
        logits, loss = model(tokens), model(tokens, labels)
    return logits, loss / (labels != -100).sum()


def theirs_says(other: torch.nn.Module, length: int) -> tuple[Tensor, Tensor]:
    """The same of a model of transformers."""
    tokens = draw(3, length)
    if other.config.is_encoder_decoder:
        sources = draw(3, 20, seed=8)
        said = other(
            input_ids=sources, attention_mask=padded(sources), decoder_input_ids=tokens, labels=labels_of(tokens)
        )
    elif other.config.model_type in ("bert", "eurobert"):
        labels = labels_of(tokens).where(padded(tokens) > 0, -100)
        said = other(tokens, attention_mask=padded(tokens), labels=labels)
    else:
        said = other(tokens, labels=labels_of(tokens))
    return said.logits, said.loss


def padded(tokens: Tensor) -> Tensor:
    """1 where a row has text and 0 where it has padding: rows of different lengths."""
    lengths = tokens.shape[1] - torch.tensor([0, 3, 7])
    return (torch.arange(tokens.shape[1]) < lengths[:, None]).long()


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.dim() == 0 or ours.std() > 0.15
    assert (ours - theirs).abs().max() < tolerance


def same_logits(ours: Tensor, theirs: Tensor, model: torch.nn.Module, length: int) -> None:
    """Logits are equal wherever there is text; an encoder's padding is nobody's business."""
    if not getattr(model.config, "causal", True):
        text = padded(draw(3, length)).bool()
        ours, theirs = ours[text], theirs[text]
    close(ours, theirs)


@pytest.mark.parametrize("name", OURS)
def test_transformers_computes_what_we_do_and_learns_what_we_do(
    name: str, tmp_path: Path, byte_tokenizer: Path
) -> None:
    import transformers

    kind, config = OURS[name]
    model = build_model(config)
    disturb(model)
    assert save_model(model, tmp_path, byte_tokenizer) == ""
    other = getattr(transformers, kind).from_pretrained(tmp_path, dtype=torch.float64, experts_implementation="eager")
    assert other.config.architectures == [kind]
    model.double(), model.train(), other.train()
    other.config.output_router_logits = bool(config.num_experts)
    logits, loss = ours_says(model, length=40)
    their_logits, their_loss = theirs_says(other, length=40)
    same_logits(logits, their_logits, model, 40)
    close(loss, their_loss)
    if name in ("bart-bias",):
        return  # the bias of the logits is a parameter of ours and a constant of theirs
    loss.backward(), their_loss.backward()
    for module in (model, other):
        # The softmax does not feel a bias of all keys: its gradient is rounding, which a small eps would blow up.
        torch.optim.AdamW(module.parameters(), lr=0.01, eps=1e-3, weight_decay=0.1).step()
    after = to_hugging_face(config, model.state_dict())
    theirs = {name: weight for name, weight in other.named_parameters() if weight.grad is not None}
    moved = {name: weight for name, weight in _in_memory(after).items() if name in theirs}
    assert len(moved) == len(theirs)
    for name, weight in moved.items():
        torch.testing.assert_close(
            weight, theirs[name].data, rtol=0, atol=1e-5, msg=lambda text, name=name: name + text
        )


def _in_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mixtral's experts are files of their own on disk and one stack in memory."""
    found = dict(tensors)
    for name in tensors:
        if ".experts.0.w1" in name:
            layer, _, _ = name.partition("block_sparse_moe.")
            pick = lambda part: [tensors[n] for n in sorted(tensors) if n.startswith(layer) and f".{part}." in n]  # noqa: B023, E731
            pairs = zip(pick("w1"), pick("w3"), strict=True)
            found[layer + "mlp.experts.gate_up_proj"] = torch.stack([torch.cat(pair) for pair in pairs])
            found[layer + "mlp.experts.down_proj"] = torch.stack(pick("w2"))
            found[layer + "mlp.gate.weight"] = tensors[layer + "block_sparse_moe.gate.weight"]
    return found


@pytest.mark.parametrize("name", OURS)
def test_a_folder_read_back_holds_the_same_bits(name: str, tmp_path: Path, byte_tokenizer: Path) -> None:
    config = OURS[name][1]
    model = build_model(config)
    disturb(model)
    save_model(model, tmp_path, byte_tokenizer)
    again = (load_encoder_decoder if isinstance(model, EncoderDecoder) else load_transformer)(tmp_path)
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())
    assert again.config.max_length == 64


@pytest.mark.parametrize("name", THEIRS)
def test_we_compute_what_transformers_does(name: str, tmp_path: Path) -> None:
    import transformers

    begin, end, settings = THEIRS[name]
    other = getattr(transformers, begin + end)(getattr(transformers, begin + "Config")(**settings))
    other.set_experts_implementation("eager")  # torch's grouped product takes no doubles
    disturb(other)
    other.eval().save_pretrained(tmp_path)
    model = (load_encoder_decoder if other.config.is_encoder_decoder else load_transformer)(tmp_path).eval()
    logits, loss = ours_says(model.double(), length=40)
    their_logits, their_loss = theirs_says(other.double(), length=40)
    same_logits(logits, their_logits, model, 40)
    close(loss, their_loss)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mixtral", "gpt2", "bloom"])
def test_a_scalar_model_is_a_classifier_of_one_label(name: str, tmp_path: Path, byte_tokenizer: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    scalar = ScalarModel(OURS[name][1])
    disturb(scalar)
    save_model(scalar, tmp_path, byte_tokenizer)
    other = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.float64, experts_implementation="eager"
    )
    tokens = draw(3, 12)
    close(scalar.double()(tokens)[:, -1], other.eval()(tokens).logits[:, 0])
    assert torch.equal(load_scalar(tmp_path).double()(tokens), scalar(tokens))


@pytest.mark.parametrize("name", ["bert", "eurobert"])
def test_a_classifier_on_an_encoder_goes_both_ways(name: str, tmp_path: Path, byte_tokenizer: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = ClassifierModel(OURS[name][1], 3)
    disturb(model)
    save_model(model.eval(), tmp_path / "ours", byte_tokenizer)
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    tokens = draw(3, 12)
    said = model.double()(tokens, segments_BT=padded(tokens) - 1)
    close(said, other(tokens, attention_mask=padded(tokens)).logits)
    other.float().save_pretrained(tmp_path / "theirs")
    again = load_classifier(tmp_path / "theirs").double().eval()
    assert torch.equal(again(tokens, segments_BT=padded(tokens) - 1), said)


def test_a_classifier_that_pools_otherwise_is_refused(tmp_path: Path, byte_tokenizer: Path) -> None:
    save_model(ClassifierModel(OURS["eurobert"][1], 3), tmp_path, byte_tokenizer)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "classifier_pooling": "late"}))
    with pytest.raises(StepError, match="classifier_pooling=late"):
        load_classifier(tmp_path)


def test_what_a_config_leaves_open_is_read_from_the_weights(tmp_path: Path) -> None:
    """Transformers ties nothing whose copies differ, whatever its config says; and its T5 always says tied."""
    from transformers import T5Config, T5ForConditionalGeneration

    settings = THEIRS["t5-gated"][2]
    other = T5ForConditionalGeneration(T5Config(**settings))
    other.save_pretrained(tmp_path)
    assert read_config(tmp_path).tie_embeddings
    other.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, 32))
    other.save_pretrained(tmp_path)
    assert not read_config(tmp_path).tie_embeddings
