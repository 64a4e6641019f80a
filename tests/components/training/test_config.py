"""A training config is refused with a sentence, before anything starts."""

from __future__ import annotations

import dataclasses

import pytest

from components.configuring import is_runtime
from components.errors import ConfigError
from components.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 0}, "training.steps"),
        ({"batch_size": 12, "micro_batch": 8, "ranks": 1}, "training.batch_size"),
        ({"batch_size": 8, "micro_batch": 4, "ranks": 3}, "training.batch_size"),
        ({"micro_batch": 0}, "training.micro_batch"),
        ({"lr": 0.0}, "training.lr"),
        ({"steps": 10, "warmup_steps": 10}, "training.warmup_steps"),
        ({"schedule": "cosin"}, "training.schedule"),
        ({"min_lr_ratio": 1.5}, "training.min_lr_ratio"),
        ({"clip_grad": -1.0}, "training.clip_grad"),
        ({"zero_stage": 4}, "training.zero_stage"),
        ({"engine": "plain", "ranks": 2}, "training.ranks"),
        ({"precision": "fp16"}, "training.precision"),
        ({"log_every": 0}, "training.log_every"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(changes, key):
    with pytest.raises(ConfigError) as refusal:
        TrainingConfig(**changes)
    assert refusal.value.where == key
    assert refusal.value.fix


def test_the_batch_size_that_the_refusal_proposes_is_accepted():
    with pytest.raises(ConfigError) as refusal:
        TrainingConfig(batch_size=10, micro_batch=4, ranks=2)
    proposed = int(refusal.value.fix.rpartition("=")[2])
    assert TrainingConfig(batch_size=proposed, micro_batch=4, ranks=2).batch_size == 8


def test_how_the_work_is_cut_up_is_no_part_of_the_identity():
    fields = {field.name for field in dataclasses.fields(TrainingConfig) if is_runtime(field)}
    assert fields == {"micro_batch", "ranks", "log_every", "checkpoint_every"}


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "ranks", "smaller"), [(16, 8, 2, 4), (12, 6, 1, 3), (10, 5, 2, 1), (4, 1, 2, None)]
)
def test_less_memory_means_smaller_micro_batches_of_the_same_batch(batch_size, micro_batch, ranks, smaller):
    config = TrainingConfig(batch_size=batch_size, micro_batch=micro_batch, ranks=ranks)
    less = config.with_less_memory()
    assert (less and less.micro_batch) == smaller
    assert less is None or dataclasses.replace(less, micro_batch=micro_batch) == config
