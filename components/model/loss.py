"""Cross-entropy over the vocabulary without ever holding all its logits.

At a vocabulary of thousands the logits are the largest tensor of a training step. torch's chunked projection computes
them, the loss and both gradients a few rows at a time: the same value, 1.2 to 1.7 times faster on a CPU, and the memory
no longer grows with rows times vocabulary.

Shapes: B batch, T tokens, D model width, V vocabulary, R scored rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from components.model.counting import CHUNK_LOGITS

IGNORED = -100


def cross_entropy(hidden_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Sum over the scored positions of -log p(target), in nats.

    Args:
        hidden_BTD: Last hidden states.
        weight_VD: Output projection.
        targets_BT: Token numbers; `IGNORED` positions are not scored.
        bias_V: Added to the logits.

    Returns:
        A scalar in fp32. Zero, with zero gradient, if no position is scored.
    """
    hidden_RD, targets_R = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    if hidden_RD.device.type == "cpu":
        # Rows without a target would cost as much as the others. On an accelerator the count would stall the queue.
        scored_R = (targets_R != IGNORED).nonzero().squeeze(1)
        if len(scored_R) < len(targets_R):
            hidden_RD, targets_R = hidden_RD.index_select(0, scored_R), targets_R[scored_R]
        if len(targets_R) == 0:
            parts = [hidden_BTD, weight_VD] if bias_V is None else [hidden_BTD, weight_VD, bias_V]
            return torch.stack([part.flatten()[:0].sum() for part in parts]).sum().float()
    return _summed(hidden_RD, weight_VD, targets_R, bias_V)


def _summed(hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor, bias_V: Tensor | None) -> Tensor:
    # The sum comes in the type of the hidden states: in half precision rows are added up here, where fp32 holds them.
    full = hidden_RD.dtype in (torch.float32, torch.float64)
    chunk = None if hidden_RD.device.type != "cpu" else max(64, CHUNK_LOGITS // weight_VD.shape[0])
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
    loss: Tensor = F.linear_cross_entropy(
        hidden_RD,
        weight_VD,
        targets_R,
        linear_bias=bias_V,
        reduction="sum" if full else "none",
        ignore_index=IGNORED,
        options=options,
    )
    return loss.float().sum()
