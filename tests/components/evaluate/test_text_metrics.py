"""Distinct-n and the statistics behind every score."""

import math

import pytest

from components.evaluate.statistics import mean, standard_error, wilson_interval, win_rate
from components.evaluate.text_metrics import distinct, units


def test_units_are_words_in_english_and_characters_in_chinese():
    assert units("It's 5 o'Clock, 你好world!") == ["it", "s", "5", "o", "clock", "你", "好", "world"]


def test_distinct_counts_different_grams_over_all_grams():
    assert distinct(["a b a", "b a"], 1) == 2 / 5
    assert distinct(["a b a", "b a"], 2) == 2 / 3
    assert distinct(["很好很好"], 2) == 2 / 3


def test_grams_do_not_reach_over_replies():
    assert distinct(["a", "b"], 2) == 0.0


def test_standard_error_of_a_known_sample():
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3 / 4))
    assert math.isnan(standard_error([1.0]))
    assert math.isnan(mean([]))


def test_wilson_interval_of_known_cases():
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = wilson_interval(1.0, 10)
    assert (low, high) == (pytest.approx(0.7225, abs=1e-4), 1.0)


def test_a_tie_is_half_a_win():
    assert win_rate([1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 4.0, 0.0]) == 0.5
