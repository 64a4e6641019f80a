"""Which numbers of ranks may go on with a training, and with which micro-batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import ConfigError
from components.training.config import TrainingConfig


def test_without_a_least_number_no_fewer_ranks_are_allowed():
    assert TrainingConfig(batch_size=16, micro_batch=2, ranks=8).allowed_ranks() == ()


def test_those_are_allowed_that_share_the_batch():
    config = TrainingConfig(batch_size=24, micro_batch=1, ranks=8, min_ranks=2)
    assert config.allowed_ranks() == (2, 3, 4, 6)


def test_ranks_that_share_a_sequence_stay_together():
    config = TrainingConfig(batch_size=24, micro_batch=1, ranks=8, min_ranks=1, tensor_parallel=2)
    assert config.allowed_ranks() == (2, 4, 6)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 12))
def test_any_allowed_number_of_ranks_makes_a_sound_config_of_the_same_batch(ranks, share, micro):
    if share % micro:
        return
    config = TrainingConfig(batch_size=ranks * share, micro_batch=micro, ranks=ranks, min_ranks=1)
    for fewer in config.allowed_ranks():
        changed = config.on_ranks(fewer)
        assert (changed.ranks, changed.batch_size) == (fewer, config.batch_size)
        assert changed.micro_batch <= config.micro_batch
        assert config.batch_size % (changed.micro_batch * fewer) == 0
    assert config.on_ranks(ranks) is config


def test_the_micro_batch_is_the_largest_that_divides_the_new_share():
    config = TrainingConfig(batch_size=24, micro_batch=4, ranks=3, min_ranks=2)
    assert config.on_ranks(2).micro_batch == 4
    assert TrainingConfig(batch_size=12, micro_batch=4, ranks=3, min_ranks=2).on_ranks(2).micro_batch == 3


@pytest.mark.parametrize("least", [-1, 5])
def test_an_impossible_least_number_is_refused_with_its_key(least):
    with pytest.raises(ConfigError) as refused:
        TrainingConfig(batch_size=16, micro_batch=2, ranks=4, min_ranks=least)
    assert refused.value.where == "training.min_ranks"
