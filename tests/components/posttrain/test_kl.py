"""KL estimators against the exact divergence of a categorical distribution."""

import math

import pytest
import torch

from components.posttrain.kl import estimate_kl, exact_kl


@pytest.fixture(scope="module")
def categorical():
    """Policy and reference over 50 outcomes, and the log-probabilities of 200,000 draws from the policy."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(50, generator=generator, dtype=torch.float64)
    reference = logits + 0.25 * torch.randn(50, generator=generator, dtype=torch.float64)
    draws = torch.multinomial(logits.softmax(-1), 200_000, replacement=True, generator=generator)
    return logits, reference, logits.log_softmax(-1)[draws], reference.log_softmax(-1)[draws]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(categorical, estimator):
    logits, reference, log_p, log_q = categorical
    estimates = estimate_kl(log_p, log_q, estimator)
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean() - exact_kl(logits, reference)) < 3 * error


def test_k3_varies_less_than_k1_and_is_never_negative(categorical):
    _, _, log_p, log_q = categorical
    k1, k3 = estimate_kl(log_p, log_q, "k1"), estimate_kl(log_p, log_q, "k3")
    assert k3.std() < k1.std() / 2
    assert k3.min() >= 0 > k1.min()


def test_the_gradient_of_k2_is_that_of_the_kl(categorical):
    logits, reference, _, _ = categorical
    exact_logits = logits.clone().requires_grad_()
    exact_kl(exact_logits, reference).backward()
    k2_logits = logits.clone().requires_grad_()
    probabilities = logits.softmax(-1)
    k2 = estimate_kl(k2_logits.log_softmax(-1), reference.log_softmax(-1), "k2")
    (probabilities * k2).sum().backward()
    assert torch.allclose(k2_logits.grad, exact_logits.grad, atol=1e-12)


def test_estimates_of_one_token_are_the_formulas():
    log_p, log_q = torch.tensor(math.log(0.5)), torch.tensor(math.log(0.125))
    values = {name: estimate_kl(log_p, log_q, name).item() for name in ("k1", "k2", "k3", "abs")}
    log4 = math.log(4)
    assert values == pytest.approx({"k1": log4, "k2": log4**2 / 2, "k3": 0.25 - 1 + log4, "abs": log4})


def test_clamp_bounds_the_log_ratio():
    assert estimate_kl(torch.tensor(0.0), torch.tensor(-50.0), "k1", clamp=20.0).item() == 20.0


def test_an_unknown_estimator_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="k1, k2, k3, abs"):
        estimate_kl(torch.zeros(1), torch.zeros(1), "k4")
