"""Each position scheme has the property that defines it."""

from __future__ import annotations

import math

import pytest
import torch

from components.errors import ConfigError
from components.model.config import ModelConfig
from components.model.positions import (
    alibi_bias,
    alibi_slopes,
    attention_factor,
    relative_buckets,
    rope_frequencies,
    rope_tables,
    rotate,
    sinusoidal_table,
)

CPU = torch.device("cpu")
SHAPE = {"dim": 32, "num_heads": 2, "num_kv_heads": 2, "max_length": 64}


def turned(vector, position, config):
    cos, sin = (table[position, None][None] for table in rope_tables(config, CPU))
    return rotate(vector.view(1, 1, 1, -1), cos, sin).flatten()


@pytest.mark.parametrize("scaling", ["none", "llama3", "yarn"])
def test_rotated_scores_depend_on_distance_alone(scaling):
    config = ModelConfig(**SHAPE, rope_scaling=scaling, rope_factor=4.0)
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    scores = [turned(query, place + 9, config) @ turned(key, place, config) for place in (0, 7, 50)]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(scores[2], scores[0], rtol=0, atol=1e-4)
    assert abs(scores[0] - query @ key) > 1e-2


@pytest.mark.parametrize("scaling", ["llama3", "yarn"])
def test_a_factor_of_one_scales_nothing(scaling):
    plain = rope_frequencies(ModelConfig(**SHAPE), CPU)
    scaled = ModelConfig(**SHAPE, rope_scaling=scaling, rope_factor=1.0)
    torch.testing.assert_close(rope_frequencies(scaled, CPU), plain, rtol=1e-6, atol=0)
    assert attention_factor(scaled) == 1


def test_llama3_stretches_waves_longer_than_the_original_and_leaves_short_ones():
    config = ModelConfig(**{**SHAPE, "max_length": 4096}, rope_scaling="llama3", rope_factor=8.0)
    plain, scaled = rope_frequencies(ModelConfig(**SHAPE), CPU), rope_frequencies(config, CPU)
    waves = (
        2 * math.pi / plain
    )  # the original length is 4096 / 8 = 512: waves below 512 / 4 stay, above 512 are eightfold
    assert torch.equal(scaled[waves < 128], plain[waves < 128])
    torch.testing.assert_close(scaled[waves > 512], plain[waves > 512] / 8)
    between = (waves > 128) & (waves < 512)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_yarn_stretches_by_turns_and_sharpens_scores():
    config = ModelConfig(**SHAPE, rope_scaling="yarn", rope_factor=4.0, rope_beta_fast=2.0)
    plain, scaled = rope_frequencies(ModelConfig(**SHAPE), CPU), rope_frequencies(config, CPU)
    turns = 16 * plain / (2 * math.pi)  # over the original length of 64 / 4
    # Bounds are whole pairs: one further on either side may be mixed.
    assert torch.equal(scaled[0], plain[0])
    assert turns[0] > 2
    torch.testing.assert_close(scaled[turns < 0.3], plain[turns < 0.3] / 4)
    assert attention_factor(config) == pytest.approx(0.1 * math.log(4) + 1)
    cos, sin = rope_tables(config, CPU)
    torch.testing.assert_close((cos.square() + sin.square()).sqrt(), torch.full_like(cos, attention_factor(config)))


def test_sinusoidal_positions_are_those_of_the_paper_sines_first():
    table = sinusoidal_table(7, 6, CPU)
    for position in range(7):
        for pair in range(3):
            angle = position / 10000 ** (2 * pair / 6)
            assert table[position, pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 3 + pair].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_alibi_slopes_of_a_power_of_two_halve_from_head_to_head():
    assert alibi_slopes(8) == [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]
    assert alibi_slopes(4) == [2**-2, 2**-4, 2**-6, 2**-8]


def test_alibi_slopes_of_another_number_of_heads_come_in_between():
    assert alibi_slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    assert len(alibi_slopes(12)) == len(set(alibi_slopes(12))) == 12


def test_alibi_falls_with_distance_in_both_directions():
    places = torch.arange(4)
    bias = alibi_bias(places - places[:, None], 4)
    assert bias[1, 3].tolist() == [-3 / 16, -2 / 16, -1 / 16, 0]
    assert torch.equal(bias, bias.transpose(1, 2))


def test_t5_buckets_of_a_decoder_are_those_computed_by_hand():
    # 8 buckets up to distance 16: 0 to 3 one each, then 4 + floor(log(d / 4) / log(16 / 4) * 4), at most 7.
    distances = -torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 11, 12, 15, 16, 200])
    found = relative_buckets(distances, 8, 16, both_ways=False)
    assert found.tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 6, 7, 7, 7, 7]
    assert relative_buckets(torch.tensor([1, 5, 100]), 8, 16, both_ways=False).tolist() == [0, 0, 0]


def test_t5_buckets_of_an_encoder_have_half_for_each_direction():
    # 4 buckets each way up to distance 16: 0 and 1, then 2 + floor(log(d / 2) / log(16 / 2) * 2), at most 3.
    distances = torch.tensor([-16, -6, -5, -2, -1, 0, 1, 2, 5, 6, 16])
    assert relative_buckets(distances, 8, 16, both_ways=True).tolist() == [3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rope_low_freq": 4.0}, "model.rope_high_freq"),
        ({"rope_beta_slow": 32.0}, "model.rope_beta_fast"),
        ({"rope_factor": 0.5}, "model.rope_factor"),
        ({"rope_attention_factor": -1.0}, "model.rope_attention_factor"),
        ({"relative_buckets": 7}, "model.relative_buckets"),
        ({"relative_max_distance": 16}, "model.relative_max_distance"),
    ],
)
def test_impossible_positions_are_refused_with_their_key(settings, key):
    with pytest.raises(ConfigError) as refused:
        ModelConfig(**settings)
    assert refused.value.where == key
