"""Numbers that training reports."""

from __future__ import annotations

import math

import pytest

from components.training.metrics import Mean, bits_per_byte, describe


def test_a_mean_is_over_units_and_starts_anew_when_taken():
    mean = Mean()
    mean.add(6.0, 2)
    mean.add(4.0, 8)
    assert mean.take() == 1.0
    assert math.isnan(mean.take())


def test_a_byte_guessed_uniformly_costs_eight_bits():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8.0)


def test_the_note_names_loss_score_rate_and_skipped_steps():
    assert (
        describe(3.4123, 9.2e-4, 1, {"step": 100, "val_bpb": 1.6249}) == "loss 3.412  bpb 1.625  lr 9.2e-04  skipped 1"
    )
