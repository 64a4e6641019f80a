"""Preference losses: pure functions of scores.

Bradley-Terry (1952): the probability that reply a is preferred to b is sigmoid(score a - score b). The margin term is
that of Llama 2 (2307.09288), which asks for a larger gap where people were surer; the centring term (2312.09244) holds
the sum of a pair's scores near 0, which the difference alone leaves free to drift. Conventions as in TRL's reward
trainer, with sums instead of means: who accumulates over micro-batches and ranks divides once, by all pairs.

Shapes: B pairs.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor | None = None, centring: float = 0.0
) -> Tensor:
    """Sum over pairs of -log sigmoid(chosen - rejected - margin) + centring (chosen + rejected)^2.

    Args:
        chosen_B: Scores of the preferred replies.
        rejected_B: Scores of the others.
        margin_B: Gap asked for; None asks for none.
        centring: Weight of the centring term.

    Returns:
        A scalar in fp32; B ln 2 where all scores are equal and no margin is asked for.
    """
    gap_B = chosen_B.float() - rejected_B.float()
    if margin_B is not None:
        gap_B = gap_B - margin_B
    loss_B = -F.logsigmoid(gap_B)
    if centring:
        loss_B = loss_B + centring * (chosen_B.float() + rejected_B.float()).square()
    return loss_B.sum()
