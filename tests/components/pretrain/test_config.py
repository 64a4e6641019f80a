"""What pretraining refuses before it starts."""

from __future__ import annotations

import pytest

from components.errors import ConfigError
from components.model.config import ModelConfig
from components.pretrain.config import PretrainConfig


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"length": 65, "model": ModelConfig(max_length=64), "sample_tokens": 8}, "pretrain.length"),
        ({"length": 1}, "pretrain.length"),
        ({"eval_documents": 0}, "pretrain.eval_documents"),
        ({"sample_tokens": -1}, "pretrain.sample_tokens"),
        ({"sample_tokens": 512}, "pretrain.sample_tokens"),
        ({"sample_temperature": -0.1}, "pretrain.sample_temperature"),
        ({"verify": "never"}, "pretrain.verify"),
        ({"loader_threads": -1}, "pretrain.loader_threads"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(changes, key):
    with pytest.raises(ConfigError) as refusal:
        PretrainConfig(**changes)
    assert refusal.value.where == key
    assert refusal.value.fix


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError):
        PretrainConfig(model=ModelConfig(dim=100, num_heads=3))
