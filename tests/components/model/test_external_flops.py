"""Arithmetic of a token in a model of transformers: the figure of ours where both are the same model."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from components.model.config import ModelConfig
from components.model.external_flops import UnknownCost, external_flops_per_token
from components.model.flops import CONVENTIONS, flops_per_token
from tests.components.model.test_external import SIZE, TYPES, VOCAB

LENGTH = 64
QWEN2 = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + VOCAB * 32
"""Queries, output, keys, values (half as wide), three of the gate, by layer; the tied table projects."""


def model_of(model_type: str, **changes: object):
    with torch.device("meta"):
        values = {**TYPES.get(model_type, SIZE), **changes}
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("model_type", "theirs", "ours"),
    [
        ("llama", {"tie_word_embeddings": True}, {"tie_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "head_dim": 12}, {"tie_embeddings": False, "head_width": 12}),
        ("qwen3", {"tie_word_embeddings": True, "head_dim": 8}, {"tie_embeddings": True, "qk_norm": True}),
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}, {"tie_embeddings": False, "num_experts": 4}),
    ],
)
def test_it_is_the_figure_of_our_model_of_the_same_shape(model_type, theirs, ours, convention):
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 2, **theirs}
    config = ModelConfig(
        vocab_size=VOCAB, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, ffn_dim=48, max_length=96, **ours
    )
    assert external_flops_per_token(model_of(model_type, **shape), LENGTH, convention) == flops_per_token(
        config, LENGTH, convention
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_it_is_the_figure_of_our_gpt2_of_the_same_shape(convention):
    theirs = model_of("gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=96)
    config = ModelConfig(
        family="gpt2", vocab_size=VOCAB, dim=32, num_layers=2, num_heads=4, num_kv_heads=4, ffn_dim=128, max_length=96
    )
    assert external_flops_per_token(theirs, LENGTH, convention) == flops_per_token(config, LENGTH, convention)


def test_every_matrix_counts_once_and_what_is_looked_up_is_free():
    attention = 12 * 2 * 32 * LENGTH
    assert external_flops_per_token(model_of("qwen2"), LENGTH, "palm") == 6 * QWEN2 + attention
    # GPT-NeoX: its embedding is looked up, its output is a table of its own.
    layers = 2 * (4 * 32 * 32 + 2 * 32 * 48)
    assert external_flops_per_token(model_of("gpt_neox"), LENGTH, "palm") == 6 * (layers + VOCAB * 32) + attention


def test_a_window_bounds_what_a_token_sees():
    """Gemma 2 slides over 8 tokens in one of its two layers: seen is 8, on average 8 - 8 * 8 / (2 * 64) = 7.5."""
    matrices = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + VOCAB * 32
    model = model_of("gemma2")
    assert external_flops_per_token(model, LENGTH, "palm") == 6 * matrices + 12 * 32 * (64 + 8)
    assert external_flops_per_token(model, LENGTH, "causal") == 6 * matrices + 12 * 32 * (32 + 7.5)
    assert external_flops_per_token(model, 8, "causal") == 6 * matrices + 12 * 32 * (4 + 4)


@pytest.mark.parametrize(
    ("model_type", "changes", "why"),
    [
        ("mamba", {"hidden_size": 32, "state_size": 4}, "linear_attention"),
        ("gpt_neo", {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["local"], 2]]}, "local"),
        ("deepseek_v3", {"hidden_size": 32, "first_k_dense_replace": 2, "num_key_value_heads": 4}, "different widths"),
    ],
)
def test_what_the_config_does_not_tell_is_said_and_not_guessed(model_type, changes, why):
    with pytest.raises(UnknownCost, match=why):
        external_flops_per_token(model_of(model_type, **changes), LENGTH, "palm")
