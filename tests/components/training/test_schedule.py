"""The learning rate of every step."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.training.config import DECAY_SHAPES, SCHEDULES, TrainingConfig
from components.training.schedule import lr_at, num_decay_steps

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


@pytest.mark.parametrize("shape", ["linear", "1-sqrt"])
def test_wsd_stays_at_the_peak_and_falls_to_the_floor_over_the_last_share(shape):
    config = TrainingConfig(
        steps=100, warmup_steps=10, lr=1e-2, min_lr_ratio=0.1, schedule="wsd", decay_share=0.25, decay_shape=shape
    )
    assert num_decay_steps(config) == 25
    assert {lr_at(config, step) for step in range(10, 75)} == {1e-2}
    for step in range(75, 100):
        passed = (step - 74) / 25
        left = 1 - (passed if shape == "linear" else math.sqrt(passed))
        assert lr_at(config, step) == pytest.approx(1e-2 * (0.1 + 0.9 * left))
    assert lr_at(config, 99) == pytest.approx(1e-3)


def test_a_wsd_decay_never_reaches_into_the_warm_up():
    config = TrainingConfig(steps=10, warmup_steps=8, lr=1.0, schedule="wsd", decay_share=1.0)
    assert num_decay_steps(config) == 2
    assert lr_at(config, 7) == 1.0


def test_inverse_sqrt_falls_with_the_root_of_the_step():
    config = TrainingConfig(steps=1000, warmup_steps=100, lr=1e-2, schedule="inverse-sqrt")
    assert [lr_at(config, step) for step in (99, 399, 899)] == pytest.approx([1e-2, 5e-3, 1e-2 / 3])


def test_inverse_sqrt_without_a_warm_up_starts_at_the_peak():
    config = TrainingConfig(steps=10, warmup_steps=0, lr=1e-2, schedule="inverse-sqrt")
    assert [lr_at(config, step) for step in (0, 3)] == pytest.approx([1e-2, 5e-3])


@given(
    st.integers(1, 300),
    st.floats(0, 0.99),
    st.sampled_from(SCHEDULES),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.sampled_from(DECAY_SHAPES),
)
def test_the_rate_never_leaves_its_bounds_and_never_rises_after_the_warm_up(
    steps, warmup, schedule, floor, share, shape
):
    config = TrainingConfig(
        steps=steps,
        warmup_steps=int(warmup * steps),
        lr=1.0,
        schedule=schedule,
        min_lr_ratio=floor,
        decay_share=share,
        decay_shape=shape,
    )
    rates = [lr_at(config, step) for step in range(steps)]
    assert all(0 <= rate <= 1 + 1e-12 for rate in rates)
    after = rates[config.warmup_steps :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
