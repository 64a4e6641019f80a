"""Generalised advantage estimation over the tokens of replies (Schulman et al. 2016, equation 16).

An action is one token; values_BT[b, t] is the critic's estimate just before token t is chosen, rewards_BT[b, t] what
came right after it. Past the last position the value is 0: a reply ends there.

Replies with holes (tool output, another speaker's turn) are masked inside, and peers disagree on those tokens:

    "carry"  value and trace pass over the hole unchanged, as if it were not there (verl, NeMo RL): the default
    "decay"  a masked token is a step with reward 0 and value 0, so gamma and lambda keep decaying (OpenRLHF)

Without interior holes both give the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from components.posttrain.masked import keep

MASKED = ("carry", "decay")


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float, masked: str = "carry"
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of every unmasked token.

    Args:
        rewards_BT: Reward after each token.
        values_BT: Value before each token.
        mask_BT: 1 on the reply's tokens; what stands elsewhere is never used.
        gamma: Discount per token.
        lam: 1 gives Monte-Carlo return minus value, 0 the one-step error.
        masked: "carry" or "decay", see the module.

    Returns:
        advantages_BT and returns_BT (advantage + value, the critic's target); both 0 where masked.

    Raises:
        ValueError: If `masked` is unknown.
    """
    if masked not in MASKED:
        raise ValueError(f"unknown treatment of masked tokens {masked!r}: use one of {', '.join(MASKED)}")
    rewards_BT, values_BT, inside_BT = keep(rewards_BT, mask_BT), keep(values_BT, mask_BT), mask_BT.bool()
    next_value_B = torch.zeros_like(values_BT[:, 0])
    trace_B = torch.zeros_like(next_value_B)
    columns: list[Tensor] = []
    for t in reversed(range(values_BT.shape[1])):
        new_trace_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t] + gamma * lam * trace_B
        counts_B = inside_BT[:, t] if masked == "carry" else torch.ones_like(inside_BT[:, t])
        trace_B = torch.where(counts_B, new_trace_B, trace_B)
        next_value_B = torch.where(counts_B, values_BT[:, t], next_value_B)
        columns.append(trace_B)
    advantages_BT = keep(torch.stack(columns[::-1], dim=1), mask_BT)
    return advantages_BT, advantages_BT + values_BT
