"""How far a policy has moved from its reference: three estimates from samples, and the exact value.

All estimate KL(policy || reference) on tokens drawn from the policy, from their two log-probabilities alone
(J. Schulman, "Approximating KL divergence", 2020). With r = reference(x) / policy(x):

    k1  = -log r             unbiased, can be negative, varies most; the per-token penalty of PPO (Ziegler et al. 2019)
    k2  = (log r)^2 / 2      biased, small variance; its gradient is the gradient of the KL, so it may serve as a loss
    k3  = r - 1 - log r      unbiased, never negative, varies little; the one to report
    abs = |log r|            not an estimate of the KL; verl offers it as a penalty

Used as a loss, k1's gradient is not that of the KL (its expectation is zero); pick k2 or k3 for that.
"""

from __future__ import annotations

import torch
from torch import Tensor

ESTIMATORS = ("k1", "k2", "k3", "abs")


def estimate_kl(log_probs: Tensor, reference_log_probs: Tensor, estimator: str, clamp: float | None = None) -> Tensor:
    """Per-token estimate of KL(policy || reference).

    Args:
        log_probs: Log-probabilities of the sampled tokens under the policy that sampled them, any shape, nats.
        reference_log_probs: The same tokens under the reference, same shape.
        estimator: "k1", "k2", "k3" or "abs", see the module.
        clamp: Bound on the log-ratio before it is used (OpenRLHF 10, verl 20); none by default, since it hides
            a policy that has left the reference.

    Returns:
        Estimates of the same shape, nats.

    Raises:
        ValueError: If the estimator is unknown.
    """
    log_ratio = log_probs - reference_log_probs
    if clamp is not None:
        log_ratio = log_ratio.clamp(-clamp, clamp)
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    if estimator == "k3":
        return torch.expm1(-log_ratio) + log_ratio
    if estimator == "abs":
        return log_ratio.abs()
    raise ValueError(f"unknown KL estimator {estimator!r}: use one of {', '.join(ESTIMATORS)}")


def exact_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(policy || reference) of whole next-token distributions.

    Args:
        logits: Unnormalised log-probabilities of the policy, shape [..., V].
        reference_logits: Those of the reference, same shape.

    Returns:
        Shape [...], nats.
    """
    log_p, log_q = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
