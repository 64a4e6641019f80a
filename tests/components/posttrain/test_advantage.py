"""Generalised advantage estimation: closed forms, masks, and the two conventions about holes."""

import pytest
import torch

from components.posttrain.advantage import gae

GENERATOR = torch.Generator().manual_seed(3)
REWARDS = torch.randn(4, 7, generator=GENERATOR, dtype=torch.float64)
VALUES = torch.randn(4, 7, generator=GENERATOR, dtype=torch.float64)
FULL = torch.ones(4, 7)


def ragged():
    """Replies of lengths 7, 4, 2 and 0 that start at positions 0, 1, 3 and nowhere."""
    mask = torch.zeros(4, 7)
    mask[0], mask[1, 1:5], mask[2, 3:5] = 1, 1, 1
    return mask


def test_lambda_1_is_the_monte_carlo_return_minus_the_value():
    gamma = 0.9
    advantages, returns = gae(REWARDS, VALUES, FULL, gamma, 1.0)
    for t in range(7):
        monte_carlo = sum(gamma**k * REWARDS[:, t + k] for k in range(7 - t))
        assert torch.allclose(advantages[:, t], monte_carlo - VALUES[:, t])
        assert torch.allclose(returns[:, t], monte_carlo)


def test_lambda_0_is_the_one_step_error():
    advantages, _ = gae(REWARDS, VALUES, FULL, 0.9, 0.0)
    following = torch.cat([VALUES[:, 1:], torch.zeros(4, 1)], dim=1)
    assert torch.allclose(advantages, REWARDS + 0.9 * following - VALUES)


def test_the_recursion_equals_the_sum_of_discounted_one_step_errors():
    gamma, lam = 0.95, 0.8
    errors, _ = gae(REWARDS, VALUES, FULL, gamma, 0.0)
    advantages, _ = gae(REWARDS, VALUES, FULL, gamma, lam)
    for t in range(7):
        expected = sum((gamma * lam) ** k * errors[:, t + k] for k in range(7 - t))
        assert torch.allclose(advantages[:, t], expected)


@pytest.mark.parametrize("masked", ["carry", "decay"])
def test_padding_around_a_reply_changes_nothing(masked):
    mask = ragged()
    advantages, returns = gae(REWARDS, VALUES, mask, 0.9, 0.7, masked)
    alone, alone_returns = gae(REWARDS[1:2, 1:5], VALUES[1:2, 1:5], torch.ones(1, 4), 0.9, 0.7)
    assert torch.allclose(advantages[1, 1:5], alone[0])
    assert torch.allclose(returns[1, 1:5], alone_returns[0])
    assert advantages[mask == 0].abs().max() == returns[mask == 0].abs().max() == 0


@pytest.mark.parametrize("masked", ["carry", "decay"])
def test_whatever_stands_on_masked_tokens_is_never_used(masked):
    mask = ragged()
    mask[0, 3] = 0
    noisy_rewards, noisy_values = REWARDS.clone(), VALUES.clone()
    noisy_rewards[mask == 0], noisy_values[mask == 0] = float("nan"), 1e9
    clean = gae(REWARDS, VALUES, mask, 0.9, 0.7, masked)
    noisy = gae(noisy_rewards, noisy_values, mask, 0.9, 0.7, masked)
    assert torch.equal(clean[0], noisy[0])
    assert torch.equal(clean[1], noisy[1])


def test_carry_treats_a_hole_as_if_it_were_not_there():
    holes = torch.tensor([[1, 1, 0, 0, 1, 1, 1]])
    outside = holes[0].bool()
    advantages, _ = gae(REWARDS[:1], VALUES[:1], holes, 0.9, 0.7, "carry")
    alone, _ = gae(REWARDS[:1, outside], VALUES[:1, outside], torch.ones(1, 5), 0.9, 0.7)
    assert torch.allclose(advantages[0, outside], alone[0])


def test_decay_treats_a_hole_as_steps_without_reward_or_value():
    holes = torch.tensor([[1, 1, 0, 0, 1, 1, 1]])
    advantages, _ = gae(REWARDS[:1], VALUES[:1], holes, 0.9, 0.7, "decay")
    zeroed, _ = gae(REWARDS[:1] * holes, VALUES[:1] * holes, torch.ones(1, 7), 0.9, 0.7)
    assert torch.allclose(advantages, zeroed * holes)


def test_an_unknown_treatment_is_refused():
    with pytest.raises(ValueError, match="carry, decay"):
        gae(REWARDS, VALUES, FULL, 1.0, 1.0, "skip")
