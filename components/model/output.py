"""The last step of every language model here: hidden states in, logits or a summed loss out.

Shapes: B batch, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from components.model.config import ModelConfig
from components.model.experts import balanced
from components.model.loss import cross_entropy


def scaled(hidden: Tensor, config: ModelConfig) -> Tensor:
    """Hidden states as the output projection reads them, [..., D]."""
    return hidden * config.dim**-0.5 if config.scale_output else hidden


def logits_or_loss(
    hidden_BTD: Tensor,
    projection: tuple[Tensor, Tensor | None],
    targets_BT: Tensor | None,
    config: ModelConfig,
    balances: Sequence[Tensor | None],
) -> Tensor:
    """Predicts, or scores targets; see `Transformer.forward`.

    Args:
        hidden_BTD: Last hidden states.
        projection: Weight [V, D] and bias [V].
        targets_BT: What is scored; None asks for logits.
        config: The model's.
        balances: Load-balancing losses that count.
    """
    hidden_BTD, (weight_VD, bias_V) = scaled(hidden_BTD, config), projection
    if targets_BT is None:
        logits_BTV: Tensor = F.linear(hidden_BTD, weight_VD, bias_V)
        return logits_BTV
    loss = cross_entropy(hidden_BTD, weight_VD, targets_BT, bias_V)
    return balanced(loss, balances, config.router_loss, targets_BT)
