"""Turns: every group has its share to within less than one sample, at every sample; and the look-ups agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import ConfigError
from components.shards.config import MixtureConfig
from components.shards.turns import round_of
from components.shards.weights import MOST, parse_change, whole_weights

weights_strategy = st.lists(st.integers(1, 60), min_size=1, max_size=12).map(tuple)


@given(weights=weights_strategy)
def test_no_group_is_ever_a_whole_sample_off_its_share(weights: tuple[int, ...]):
    total = sum(weights)
    groups, _ = round_of(weights).at(np.arange(2 * total))
    counts = [0] * len(weights)
    for done, group in enumerate(groups.tolist(), start=1):
        counts[group] += 1
        assert all(
            abs(count - Fraction(done * weight, total)) < 1 for count, weight in zip(counts, weights, strict=True)
        )
    assert counts == [2 * weight for weight in weights]


def test_taking_whoever_is_furthest_behind_would_leave_a_group_more_than_a_sample_behind():
    weights = (40, 5, 1, 40, 40, 40, 5)
    total, counts, worst = sum(weights), [0] * len(weights), Fraction(0)
    for done in range(1, total + 1):
        deficits = [Fraction(done * weight, total) - count for weight, count in zip(weights, counts, strict=True)]
        counts[deficits.index(max(deficits))] += 1
        worst = max(worst, *(Fraction(done * w, total) - c for w, c in zip(weights, counts, strict=True)))
    assert worst > Fraction(11, 10)


@given(weights=weights_strategy, start=st.integers(0, 10**12))
def test_the_look_ups_agree_far_into_a_run(weights: tuple[int, ...], start: int):
    turns = round_of(weights)
    samples = np.arange(start, start + 3 * sum(weights))
    groups, counts = turns.at(samples)
    assert turns.counts(start).sum() == start
    for group in range(len(weights)):
        mine = samples[groups == group]
        assert counts[groups == group].tolist() == list(
            range(turns.counts(start)[group], turns.counts(int(samples[-1]) + 1)[group])
        )
        assert turns.when(group, counts[groups == group]).tolist() == mine.tolist()


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ({"en": "0.7", "zh": "0.3"}, {"en": 7, "zh": 3}),
        ({"zh": "2", "en": "4"}, {"en": 2, "zh": 1}),
        ({"a": "1/3", "b": "1/6", "c": "0"}, {"a": 2, "b": 1}),
        ({"a": "1e-3", "b": "1"}, {"a": 1, "b": 1000}),
    ],
)
def test_weights_become_the_smallest_whole_numbers(weights: dict[str, str], whole: dict[str, int]):
    assert whole_weights("mixture.weights", weights) == whole


@pytest.mark.parametrize("text", ["-1", "much", "1/0", "nan", "inf", ""])
def test_what_is_no_weight_is_refused_by_its_key(text: str):
    with pytest.raises(ConfigError, match=r"mixture\.weights\.en"):
        MixtureConfig({"en": text, "zh": "1"})


@pytest.mark.parametrize(
    ("weights", "changes"),
    [
        ({"en": "0"}, {}),
        ({"en": "0.1234567", "zh": "1"}, {}),
        ({}, {"5": "en=1"}),
        ({"en": "1"}, {"0": "en=1"}),
        ({"en": "1"}, {"soon": "en=1"}),
        ({"en": "1"}, {"5": "en"}),
        ({"en": "1"}, {"5": "en=1,en=2"}),
        ({"en": "1"}, {"5": ""}),
    ],
)
def test_an_impossible_mixture_is_refused(weights: dict[str, str], changes: dict[str, str]):
    with pytest.raises(ConfigError) as refusal:
        MixtureConfig(weights, changes)
    assert refusal.value.where.startswith("mixture.")
    assert refusal.value.fix


@pytest.mark.slow
@settings(max_examples=10_000)
@given(st.one_of(st.text(max_size=30), st.text("en=0.1,/ -e", max_size=20)))
def test_any_text_as_a_change_is_read_or_refused(text: str):
    try:
        weights = whole_weights("mixture", parse_change("mixture.changes.1", text))
    except ConfigError:
        return
    assert all(name and weight > 0 for name, weight in weights.items())
    assert 0 < sum(weights.values()) <= MOST
