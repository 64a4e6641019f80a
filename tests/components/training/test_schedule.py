"""The learning rate of every step."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.training.config import TrainingConfig
from components.training.schedule import lr_at

CONFIG = TrainingConfig(steps=100, warmup_steps=10, lr=1e-2, min_lr_ratio=0.1)


def test_the_rate_climbs_in_equal_parts_to_its_peak():
    assert [lr_at(CONFIG, step) for step in (0, 4, 9)] == pytest.approx([1e-3, 5e-3, 1e-2])


def test_cosine_starts_at_the_peak_is_half_way_in_the_middle_and_ends_at_the_floor():
    config = TrainingConfig(steps=101, warmup_steps=0, lr=1e-2, min_lr_ratio=0.1)
    assert [lr_at(config, step) for step in (0, 50, 100)] == pytest.approx([1e-2, 5.5e-3, 1e-3])


def test_linear_falls_in_equal_parts():
    config = TrainingConfig(steps=101, warmup_steps=0, lr=1e-2, min_lr_ratio=0.0, schedule="linear")
    assert [lr_at(config, step) for step in (0, 25, 100)] == pytest.approx([1e-2, 7.5e-3, 0.0])


def test_constant_stays():
    config = TrainingConfig(steps=50, warmup_steps=5, lr=1e-2, schedule="constant")
    assert {lr_at(config, step) for step in range(5, 50)} == {1e-2}


@given(st.integers(1, 300), st.floats(0, 0.99), st.sampled_from(["cosine", "linear", "constant"]), st.floats(0, 1))
def test_the_rate_never_leaves_its_bounds_and_never_rises_after_the_warm_up(steps, warmup, schedule, floor):
    config = TrainingConfig(
        steps=steps, warmup_steps=int(warmup * steps), lr=1.0, schedule=schedule, min_lr_ratio=floor
    )
    rates = [lr_at(config, step) for step in range(steps)]
    assert all(0 <= rate <= 1 + 1e-12 for rate in rates)
    after = rates[config.warmup_steps :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
