"""A training config is refused with a sentence, before anything starts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from components.classify.config import ClassifyConfig
from components.configuring import is_runtime
from components.errors import ConfigError
from components.ppo.config import PpoConfig
from components.reward.config import RewardConfig
from components.sft.config import SftConfig
from components.training.config import TrainingConfig
from components.training.deepspeed_json import deepspeed_json
from components.training.deepspeed_table import merged
from components.translate.config import TranslateConfig


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
        ({"precision": "fp8"}, "training.precision"),
        ({"decay_share": 0.0}, "training.decay_share"),
        ({"decay_shape": "cosine"}, "training.decay_shape"),
        ({"optimizer": "adam"}, "training.optimizer"),
        ({"optimizer": "adamw8bit", "zero_stage": 1}, "training.optimizer"),
        ({"muon_momentum": 1.0}, "training.muon_momentum"),
        ({"muon_lr_ratio": 0.0}, "training.muon_lr_ratio"),
        ({"recompute": "all"}, "training.recompute"),
        ({"offload": "cpu", "engine": "plain", "ranks": 1}, "training.offload"),
        ({"offload": "cpu", "zero_stage": 0}, "training.offload"),
        ({"offload": "nvme", "zero_stage": 2, "offload_folder": "/x"}, "training.offload"),
        ({"offload": "nvme", "zero_stage": 3}, "training.offload_folder"),
        ({"ranks": 2, "tensor_parallel": 4}, "training.ranks"),
        ({"ranks": 2, "sequence_parallel": 2, "compile": True}, "training.compile"),
        ({"ranks": 2, "tensor_parallel": 2, "optimizer": "muon"}, "training.tensor_parallel"),
        ({"ranks": 2, "tensor_parallel": 2, "zero_stage": 0}, "training.tensor_parallel"),
        ({"ranks": 4, "tensor_parallel": 2, "sequence_parallel": 2}, "training.tensor_parallel"),
        ({"deepspeed": {"train_batch_size": "8"}}, "training.deepspeed.train_batch_size"),
        ({"deepspeed": {"zero_optimization.stage": "3"}}, "training.deepspeed.zero_optimization.stage"),
        (
            {"deepspeed": {"zero_optimization.offload_param.device": "cpu"}},
            "training.deepspeed.zero_optimization.offload_param.device",
        ),
        ({"deepspeed": {"zero_optimisation.stage": "3"}}, "training.deepspeed.zero_optimisation.stage"),
        (
            {"deepspeed": {"wall_clock_breakdown": "true"}, "engine": "plain", "ranks": 1},
            "training.deepspeed.wall_clock_breakdown",
        ),
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


def test_ranks_that_share_a_sequence_or_its_matrices_count_once_in_the_batch():
    config = TrainingConfig(batch_size=4, micro_batch=2, ranks=8, sequence_parallel=4)
    assert config.data_ranks == 2
    with pytest.raises(ConfigError, match="on 4 groups of 2 ranks"):
        TrainingConfig(batch_size=4, micro_batch=2, ranks=8, tensor_parallel=2)


def test_a_table_puts_its_values_at_their_dotted_names_and_changes_nothing_else():
    settings = {"zero_optimization": {"stage": 3, "overlap_comm": False}}
    table = {"zero_optimization.overlap_comm": "true", "aio.block_size": "1048576", "aio.name": "a b"}
    assert merged(settings, table) == {
        "zero_optimization": {"stage": 3, "overlap_comm": True},
        "aio": {"block_size": 1048576, "name": "a b"},
    }
    assert settings == {"zero_optimization": {"stage": 3, "overlap_comm": False}}


def test_how_the_work_is_cut_up_is_no_part_of_the_identity():
    fields = {field.name for field in dataclasses.fields(TrainingConfig) if is_runtime(field)}
    cut = {"micro_batch", "ranks", "tensor_parallel", "sequence_parallel", "recompute", "offload_folder"}
    assert cut <= fields
    assert not {"batch_size", "optimizer", "compile", "precision", "offload", "deepspeed"} & fields


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "ranks", "smaller"), [(16, 8, 2, 4), (12, 6, 1, 3), (10, 5, 2, 1), (4, 1, 2, None)]
)
def test_less_memory_means_smaller_micro_batches_of_the_same_batch(batch_size, micro_batch, ranks, smaller):
    config = TrainingConfig(batch_size=batch_size, micro_batch=micro_batch, ranks=ranks)
    less = config.with_less_memory()
    assert (less and less.micro_batch) == smaller
    assert less is None or dataclasses.replace(less, micro_batch=micro_batch) == config


def test_the_settings_of_an_offload_name_its_places():
    config = TrainingConfig(zero_stage=3, offload="nvme", offload_folder="/fast")
    place = {"device": "nvme", "pin_memory": True, "nvme_path": "/fast"}
    zero = deepspeed_json(config, 2, torch.float32, 1000, on_cpu=False)["zero_optimization"]
    assert (zero["offload_optimizer"], zero["offload_param"]) == (place, place)
    zero = deepspeed_json(TrainingConfig(zero_stage=2, offload="cpu"), 2, torch.float32, 1000)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in zero


@pytest.mark.parametrize("kind", [SftConfig, RewardConfig, PpoConfig, ClassifyConfig, TranslateConfig])
def test_only_pretraining_shares_matrices_or_sequences(kind):
    shared = TrainingConfig(ranks=2, micro_batch=2, batch_size=4, sequence_parallel=2)
    with pytest.raises(ConfigError, match="pretraining alone") as refused:
        kind(training=shared)
    assert refused.value.where.endswith(".training.sequence_parallel")
