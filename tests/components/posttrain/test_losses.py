"""Policy and value losses on cases worked out by hand."""

import math

import pytest
import torch

from components.posttrain.masked import token_weights
from components.posttrain.policy_loss import clipped_policy_loss
from components.posttrain.value_loss import clipped_value_loss, explained_variance

ONE = torch.ones(1)


def policy_case(ratio, advantage, **options):
    """Loss, clip fraction and gradient of one token."""
    log_prob = torch.tensor([math.log(ratio)], requires_grad=True)
    result = clipped_policy_loss(log_prob, torch.zeros(1), torch.tensor([advantage]), ONE, **options)
    result.loss.backward()
    return result.loss.item(), result.clip_fraction.item(), log_prob.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),  # unmoved: plain policy gradient
        (1.5, 2.0, -2.4, 1),  # a good token grew past 1.2: no more reward
        (0.5, 2.0, -1.0, 0),  # a good token shrank: full gradient back
        (0.5, -2.0, 1.6, 1),  # a bad token shrank past 0.8: enough
        (1.5, -2.0, 3.0, 0),  # a bad token grew: full gradient back
    ],
)
def test_the_five_cases_of_the_clip(ratio, advantage, loss, clipped):
    found_loss, found_clipped, gradient = policy_case(ratio, advantage)
    assert found_loss == pytest.approx(loss)
    assert found_clipped == clipped
    assert gradient == pytest.approx(0.0 if clipped else -advantage * ratio)


def test_the_upper_bound_can_be_wider_than_the_lower():
    assert policy_case(1.25, 1.0, clip_high=0.28)[0] == pytest.approx(-1.25)
    assert policy_case(1.5, 1.0, clip_high=0.28)[0] == pytest.approx(-1.28)
    assert policy_case(0.5, -1.0, clip_high=0.28)[0] == pytest.approx(0.8)


def test_dual_clip_bounds_the_loss_of_a_bad_token_only():
    assert policy_case(9.0, -1.0)[0] == pytest.approx(9.0)
    assert policy_case(9.0, -1.0, dual_clip=3.0) == (pytest.approx(3.0), 1.0, 0.0)
    assert policy_case(9.0, 1.0, dual_clip=3.0)[0] == pytest.approx(-1.2)


def test_a_fresh_policy_has_no_clipping_and_no_kl():
    log_probs = torch.full((2, 3), -1.5)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    result = clipped_policy_loss(log_probs, log_probs, torch.ones(2, 3), token_weights(mask))
    assert (result.loss.item(), result.clip_fraction.item(), result.approx_kl.item()) == (-1.0, 0.0, 0.0)


def test_losses_and_gradients_ignore_masked_tokens():
    weights = token_weights(torch.tensor([[1, 0, 1, 0]]))
    losses, gradients = [], []
    for garbage in (0.0, float("nan"), 1e30):
        new = torch.tensor([[-1.0, garbage, -2.0, garbage]], requires_grad=True)
        old = torch.tensor([[-1.1, 0.0, -1.7, garbage]])
        policy = clipped_policy_loss(new, old, torch.tensor([[1.0, garbage, -1.0, 1.0]]), weights)
        value = clipped_value_loss(new, old, torch.tensor([[0.5, 0.5, 0.5, garbage]]), weights)
        (policy.loss + value.loss).backward()
        losses.append((policy.loss.item(), value.loss.item()))
        gradients.append(new.grad.tolist())
    assert losses[0] == losses[1] == losses[2]
    assert gradients[0] == gradients[1] == gradients[2]
    assert gradients[0][0][1] == gradients[0][0][3] == 0.0


def value_case(value, old, target, clip=0.2):
    """Loss, clip fraction and gradient of one value."""
    tensor = torch.tensor([value], requires_grad=True)
    result = clipped_value_loss(tensor, torch.tensor([old]), torch.tensor([target]), ONE, clip=clip)
    result.loss.backward()
    return result.loss.item(), result.clip_fraction.item(), tensor.grad.item()


def test_a_value_near_its_old_one_has_the_plain_squared_error():
    assert value_case(0.1, 0.0, 1.0) == (pytest.approx(0.405), 0.0, pytest.approx(-0.9))


def test_a_value_that_ran_towards_its_target_stops_learning():
    assert value_case(0.5, 0.0, 1.0) == (pytest.approx(0.32), 1.0, 0.0)


def test_a_value_that_ran_away_from_its_target_is_pulled_back():
    assert value_case(-0.5, 0.0, 1.0) == (pytest.approx(1.125), 0.0, pytest.approx(-1.5))


def test_without_a_clip_it_is_the_plain_squared_error():
    assert value_case(0.5, 0.0, 1.0, clip=None) == (pytest.approx(0.125), 0.0, pytest.approx(-0.5))


def test_explained_variance_of_perfect_constant_and_opposite_values():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[1, 1, 1, 0]])
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(1, 4), mask) == 0.0
