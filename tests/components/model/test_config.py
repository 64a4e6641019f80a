"""The model's config: what it refuses, and what it counts."""

from __future__ import annotations

import pytest

from components.errors import ConfigError
from components.model.config import ModelConfig, SamplingConfig
from components.model.transformer import Transformer


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"family": "lstm"}, "model.family"),
        ({"dim": 100, "num_heads": 6}, "model.dim"),
        ({"dim": 18, "num_heads": 6}, "model.dim"),
        ({"num_heads": 6, "num_kv_heads": 4}, "model.num_kv_heads"),
        ({"num_layers": 0}, "model.num_layers"),
        ({"vocab_size": -1}, "model.vocab_size"),
        ({"norm_eps": 0.0}, "model.norm_eps"),
    ],
)
def test_an_impossible_shape_is_refused_with_its_key(settings, key):
    with pytest.raises(ConfigError) as refused:
        ModelConfig(**settings)
    assert refused.value.where == key
    assert refused.value.fix


@pytest.mark.parametrize("settings", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"max_new_tokens": 0}])
def test_impossible_sampling_is_refused(settings):
    with pytest.raises(ConfigError):
        SamplingConfig(**settings)


def test_a_model_without_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size"):
        Transformer(ModelConfig())
