"""What a model will have and cost, counted from its config: against published totals and against built models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.model.config import ModelConfig
from components.model.counting import num_active_parameters, num_parameters
from components.model.flops import effective_length, flops_per_token, forward_flops_per_token
from components.model.transformer import build_model

PRESETS = Path(__file__).parents[3] / "conf" / "model"
PUBLISHED = {
    "gpt2-124m": (50257, 124_439_808),
    "gpt2-350m": (50257, 354_823_168),
    "gpt2-774m": (50257, 774_030_080),
    "gpt2-1.5b": (50257, 1_557_611_200),
    "llama-1b": (128256, 1_235_814_400),
    "llama-3b": (128256, 3_212_749_824),
    "llama-8b": (128256, 8_030_261_248),
    "llama-70b": (128256, 70_553_706_496),
    "qwen3-0.6b": (151936, 596_049_920),
    "mixtral-8x7b": (32000, 46_702_792_704),
    "bloom-560m": (250880, 559_214_592),
    "bert-base": (30522, 109_514_298),
    "bert-large": (30522, 335_174_458),
    "t5-small": (32128, 60_506_624),
}
"""Vocabulary and parameters of the models these presets are shaped after, as their authors give them."""


def preset(name: str, vocab_size: int = 1000) -> ModelConfig:
    return ModelConfig(**yaml.safe_load((PRESETS / f"{name}.yaml").read_text()), vocab_size=vocab_size)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_parameters_of_the_model_it_is_named_after(name):
    vocab_size, total = PUBLISHED[name]
    assert num_parameters(preset(name, vocab_size)) == total


def test_bart_has_two_more_rows_of_positions_than_it_can_use():
    config = replace(preset("bart-base", 50265), max_length=1026)
    assert num_parameters(config) == 139_420_416


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_a_sound_config_of_a_sensible_size(path):
    assert 10_000 < num_parameters(preset(path.stem)) < 100e9


def test_of_a_mixture_of_experts_a_token_visits_a_part():
    config = preset("mixtral-8x7b", 32000)
    assert num_active_parameters(config) == num_parameters(config) - 32 * 6 * 3 * 4096 * 14336
    assert round(num_active_parameters(config) / 1e9, 1) == 12.9
    dense = preset("llama-1b")
    assert num_active_parameters(dense) == num_parameters(dense)


SMALL = {"vocab_size": 101, "dim": 48, "num_layers": 3, "num_heads": 4, "ffn_dim": 80, "max_length": 64}
VARIANTS: dict[str, dict[str, object]] = {
    "untied": {"tie_embeddings": False},
    "biased gate": {"bias": True},
    "wide heads": {"head_width": 20, "qk_norm": True},
    "experts": {"num_experts": 4},
    "plain experts": {"family": "gpt2", "num_experts": 4},
    "gpt2": {"family": "gpt2"},
    "gpt2 without biases": {"family": "gpt2", "bias": False, "positions": "t5"},
    "alibi": {"family": "gpt2", "positions": "alibi", "embed_norm": True},
    "bert": {"family": "bert", "num_token_types": 2},
    "eurobert": {"family": "eurobert"},
    "bert pre-norm": {"family": "bert", "post_norm": False, "norm": "rmsnorm", "tie_embeddings": False},
    "encoder-decoder": {"family": "encoder-decoder", "num_encoder_layers": 2, "logits_bias": True},
    "t5": {"family": "encoder-decoder", "positions": "t5", "norm": "rmsnorm", "post_norm": False, "bias": False},
    "bart": {"family": "encoder-decoder", "positions": "learned", "embed_norm": True, "qk_norm": True},
}


def built(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_parameters_are_counted_as_torch_counts_them(settings):
    config = ModelConfig(**{**SMALL, **settings})
    assert num_parameters(config) == built(config)


@pytest.mark.parametrize("name", ["gpt2-124m", "qwen3-0.6b", "llama-8b", "bert-base", "transformer-big", "t5-small"])
def test_a_preset_is_counted_as_the_model_it_builds(name):
    assert num_parameters(preset(name)) == built(preset(name))


def test_flops_follow_the_palm_convention():
    config = ModelConfig(vocab_size=1000, dim=64, num_layers=2, num_heads=4, num_kv_heads=4, ffn_dim=96)
    matrices = 2 * (4 * 64 * 64 + 3 * 64 * 96) + 1000 * 64
    assert flops_per_token(config, 128) == 6 * matrices + 12 * 2 * 64 * 128
    assert forward_flops_per_token(config, 128) * 3 == flops_per_token(config, 128)


def test_the_causal_convention_halves_attention_and_nothing_else():
    config = ModelConfig(vocab_size=1000, dim=64, num_layers=2, num_heads=4, num_kv_heads=4, ffn_dim=96)
    attention = 12 * 2 * 64 * 128
    difference = flops_per_token(config, 128) - flops_per_token(config, 128, "causal")
    assert difference == attention / 2


def test_an_encoder_looks_at_all_of_its_sequence_in_both_conventions():
    config = preset("bert-micro")
    assert flops_per_token(config, 128) == flops_per_token(config, 128, "causal")
    matrices = 2 * (4 * 64 * 64 + 2 * 64 * 128) + 64 * 64 + 1000 * 64
    assert flops_per_token(config, 128) == 6 * matrices + 12 * 2 * 64 * 128


def test_an_encoder_decoder_is_counted_over_source_and_target_tokens():
    config = replace(preset("transformer-micro"), num_encoder_layers=3)
    source = 3 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * (2 * 64 * 64)
    target = 2 * (6 * 64 * 64 + 2 * 64 * 128) + 1000 * 64
    attention = 12 * 64 * 100 * (3 + 2 + 2)
    assert flops_per_token(config, 100) == pytest.approx((6 * (source + target) + attention) / 2)
    causal = 12 * 64 * 100 * (3 + 2 * 0.5 + 2)
    assert flops_per_token(config, 100, "causal") == pytest.approx((6 * (source + target) + causal) / 2)


def test_flops_of_a_mixture_count_the_experts_a_token_visits():
    config = ModelConfig(vocab_size=100, dim=64, num_layers=1, num_heads=4, num_kv_heads=4, ffn_dim=96, num_experts=8)
    matrices = 4 * 64 * 64 + 8 * 64 + 2 * 3 * 64 * 96 + 100 * 64
    assert flops_per_token(config, 0) == 6 * matrices


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_attention_of_documents_costs_what_it_costs_at_their_effective_length(lengths):
    whole = effective_length(lengths) * sum(lengths)
    assert whole == pytest.approx(sum(length * length for length in lengths))
    assert effective_length([max(lengths)] * 3) == max(lengths)
