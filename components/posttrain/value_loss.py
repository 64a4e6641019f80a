"""The critic's loss: half the squared error to the returns, with a step that may not run away from the old value.

Clipping (Schulman's 2017 PPO code; kept by TRL, verl, OpenRLHF) takes the larger of two errors: that of the new value
and that of the new value held within `clip` of the value at rollout time. Once a value has moved further than that
towards its return, its gradient is zero. `clip=None` is the plain squared error.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from components.posttrain.masked import keep, masked_variance


class ValueLoss(NamedTuple):
    """Weighted sums over a micro-batch; summed over all micro-batches of a step they are the step's means.

    Attributes:
        loss: To minimise, a scalar with gradient.
        clip_fraction: Share of tokens whose gradient the clip cut off.
    """

    loss: Tensor
    clip_fraction: Tensor


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, weights: Tensor, *, clip: float | None = 0.2
) -> ValueLoss:
    """Half the (clipped) squared error of a micro-batch, as a weighted sum.

    Args:
        values: The critic's values being trained, any shape, in units of reward.
        old_values: Those at rollout time; same shape, no gradient.
        returns: What they should have been; same shape, no gradient.
        weights: Same shape: each token's share of the step (0 where masked).
        clip: Furthest that a value may move from its old one before its error stops to count; None turns it off.

    Returns:
        See `ValueLoss`.
    """
    mask = weights > 0
    values, old_values, returns = keep(values, mask), keep(old_values, mask), keep(returns, mask)
    free = (values - returns) ** 2
    if clip is None:
        return ValueLoss(0.5 * (free * weights).sum(), torch.zeros((), device=values.device))
    held = (torch.clamp(values, old_values - clip, old_values + clip) - returns) ** 2
    loss = torch.maximum(free, held)
    return ValueLoss(0.5 * (loss * weights).sum(), ((held > free) * weights).sum())


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Share of the returns' variance that the values explain: 1 is perfect, 0 no better than a constant, below 0 worse.

    0 if the returns do not vary.
    """
    total = float(masked_variance(returns, mask))
    if total == 0.0:
        return 0.0
    return 1.0 - float(masked_variance(returns - values, mask)) / total
