"""The Bradley-Terry loss: closed forms, and what each term does to the scores."""

from __future__ import annotations

import math

import pytest
import torch

from components.posttrain.preference import bradley_terry


def test_equal_scores_cost_ln_2_a_pair():
    assert bradley_terry(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(5 * math.log(2))


def test_the_loss_is_minus_the_log_of_the_preferred_side_winning():
    chosen, rejected = torch.tensor([1.5, -0.5]), torch.tensor([0.5, 1.0])
    expected = -sum(math.log(1 / (1 + math.exp(-gap))) for gap in (1.0, -1.5))
    assert bradley_terry(chosen, rejected).item() == pytest.approx(expected)


def test_a_margin_moves_the_gap_at_which_a_pair_is_indifferent():
    margin = torch.tensor([0.7])
    assert bradley_terry(torch.tensor([1.7]), torch.tensor([1.0]), margin).item() == pytest.approx(math.log(2))


def test_centring_adds_the_squared_sum_of_a_pair():
    chosen, rejected = torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0])
    added = bradley_terry(chosen, rejected, centring=0.1) - bradley_terry(chosen, rejected)
    assert added.item() == pytest.approx(0.1 * 9)


def test_the_gradient_pushes_the_sides_apart_by_the_chance_of_being_wrong():
    chosen, rejected = torch.tensor([0.3], requires_grad=True), torch.tensor([0.1], requires_grad=True)
    bradley_terry(chosen, rejected).backward()
    wrong = 1 / (1 + math.exp(0.2))
    assert chosen.grad.item() == pytest.approx(-wrong)
    assert rejected.grad.item() == pytest.approx(wrong)


def test_half_precision_scores_are_compared_in_fp32():
    loss = bradley_terry(torch.tensor([300.0]).bfloat16(), torch.tensor([299.0]).bfloat16())
    assert loss.dtype == torch.float32
