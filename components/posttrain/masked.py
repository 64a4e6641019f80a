"""Sums, means and loss weights over the positions that count.

Batches are padded, so every statistic comes with a mask of the same shape: 1 where a token counts, 0 elsewhere. What
stands on a masked position (padding, stale values, even NaN) changes nothing: it is replaced before it is used, because
0 * NaN is NaN and its gradient too.

`token_weights` is how a loss stays the same however a batch is cut: the weights of the whole optimizer step are made
once and sum to one; each micro-batch on each rank then adds up weight * loss, and the pieces sum to the global mean.

Shape legend: B rows, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

AGGREGATIONS = ("token_mean", "sequence_mean", "constant")


def keep(values: Tensor, mask: Tensor) -> Tensor:
    """Zeroes what is masked, NaN and infinity included. Same shape as `values`; no gradient flows where masked."""
    return torch.where(mask.bool(), values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the unmasked positions, a scalar."""
    return keep(values, mask).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked positions, a scalar; 0 if all are masked."""
    return masked_sum(values, mask) / mask.bool().sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor, unbiased: bool = True) -> Tensor:
    """Variance over the unmasked positions, a scalar; 0 if fewer than two are left (one, when biased).

    Args:
        values: Any shape.
        mask: Same shape.
        unbiased: Divide by n - 1 (TRL, verl) rather than by n (OpenRLHF).
    """
    squares = (keep(values, mask) - masked_mean(values, mask)) ** 2
    return masked_sum(squares, mask) / (mask.bool().sum() - int(unbiased)).clamp(min=1)


def token_weights(mask_BT: Tensor, aggregation: str = "token_mean", length: int = 0) -> Tensor:
    """Weight of every token in the loss of one optimizer step.

    Args:
        mask_BT: Mask of the whole step: all rows of all ranks and micro-batches.
        aggregation: "token_mean" weighs tokens alike (TRL's PPO, verl's default); "sequence_mean" weighs rows alike and
            tokens alike within a row (so a token of a short reply weighs more); "constant" divides by rows * `length`,
            which removes the length bias of both (Dr.GRPO, Liu et al. 2025, section 3.1).
        length: Tokens that a row may have at most, for "constant".

    Returns:
        Weights of the mask's shape, float32, 0 where masked; they sum to 1 ("constant": to at most 1).

    Raises:
        ValueError: If the aggregation is unknown, or "constant" comes without a length.
    """
    weights_BT = mask_BT.bool().float()
    if aggregation == "token_mean":
        return weights_BT / weights_BT.sum().clamp(min=1)
    if aggregation == "sequence_mean":
        lengths_B1 = weights_BT.sum(1, keepdim=True)
        return weights_BT / lengths_B1.clamp(min=1) / (lengths_B1 > 0).sum().clamp(min=1)
    if aggregation == "constant" and length > 0:
        return weights_BT / (len(mask_BT) * length)
    raise ValueError(f"aggregation {aggregation!r} with length {length}: use one of {', '.join(AGGREGATIONS)}")
