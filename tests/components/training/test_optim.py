"""Which weights decay."""

from __future__ import annotations

import torch

from components.training.config import TrainingConfig
from components.training.optim import make_optimizer, set_lr
from tests.components.training.toy import Toy


def test_matrices_decay_and_vectors_do_not():
    model = Toy()
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.25))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters() if p.requires_grad} == {
        "embed.weight": 0.25,
        "hidden.weight": 0.25,
        "hidden.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
    }


def test_a_frozen_weight_is_not_optimized():
    model = Toy()
    optimizer = make_optimizer(model, TrainingConfig())
    assert not any(p is model.frozen for group in optimizer.param_groups for p in group["params"])


def test_a_model_of_vectors_alone_has_one_group():
    assert len(make_optimizer(torch.nn.LayerNorm(4), TrainingConfig()).param_groups) == 1


def test_the_rate_is_set_in_every_group():
    optimizer = make_optimizer(Toy(), TrainingConfig())
    set_lr(optimizer, 0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}
