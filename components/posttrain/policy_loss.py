"""The clipped policy objective of PPO (Schulman et al. 2017, equation 7), with its two usual variants.

    asymmetric clip   a wider upper bound lets rare good tokens grow faster (DAPO, Yu et al. 2025: 0.2 / 0.28)
    dual clip         bounds the loss of a very likely token with a negative advantage (Ye et al. 2020: c = 3)

The loss is a weighted sum, so it does not depend on how a batch is cut into micro-batches: see `masked.token_weights`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.posttrain.masked import keep


class PolicyLoss(NamedTuple):
    """Weighted sums over a micro-batch; summed over all micro-batches of a step they are the step's means.

    Attributes:
        loss: To minimise, a scalar with gradient.
        clip_fraction: Share of tokens whose gradient the clip cut off.
        approx_kl: k3 estimate of KL(old || new), nats per token.
    """

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor


def clipped_policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """Clipped surrogate loss of a micro-batch.

    Args:
        log_probs: Log-probabilities of the sampled tokens under the policy being trained, any shape, nats.
        old_log_probs: Those under the policy that sampled them; same shape, no gradient.
        advantages: Same shape, no gradient.
        weights: Same shape: each token's share of the step (0 where masked).
        clip_low: The ratio new / old is not rewarded below 1 - clip_low.
        clip_high: Nor above 1 + clip_high; as clip_low if None.
        dual_clip: Bound c > 1 on the loss at negative advantages: at most c * |advantage|. None turns it off.

    Returns:
        See `PolicyLoss`.
    """
    mask = weights > 0
    log_ratio = keep(log_probs - old_log_probs, mask)
    advantages = keep(advantages, mask)
    ratio = log_ratio.exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_low, 1 + (clip_low if clip_high is None else clip_high))
    loss, cut = torch.maximum(free, clipped), clipped > free
    if dual_clip is not None:
        bound = -advantages * dual_clip
        over = (advantages < 0) & (loss > bound)
        loss, cut = torch.where(over, bound, loss), cut | over
    approx_kl = (torch.expm1(log_ratio) - log_ratio).detach()
    return PolicyLoss((loss * weights).sum(), (cut * weights).sum(), (approx_kl * weights).sum())
