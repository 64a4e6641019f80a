"""What tests of the loop and its engines share: a config of twelve steps, and one thread."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from components.channel import Channel
from components.context import Rank
from components.training.config import TrainingConfig

CONFIG = TrainingConfig(
    steps=12,
    batch_size=16,
    micro_batch=8,
    lr=1e-2,
    warmup_steps=3,
    engine="plain",
    precision="fp32",
    ranks=1,
    eval_every=4,
    log_every=2,
    checkpoint_every=3,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config() -> TrainingConfig:
    """Twelve steps of the toy on one rank of plain torch."""
    return CONFIG


@pytest.fixture
def vary(config):
    """The toy's config with some fields changed."""
    return lambda **changes: dataclasses.replace(config, **changes)


@pytest.fixture
def rank(tmp_path) -> Rank:
    """The only process, speaking into `tmp_path`."""
    return Rank(0, 1, 0, "cpu", Channel(tmp_path))
