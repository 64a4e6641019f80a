"""One layer of a Transformer: attention, cross attention in a decoder of an encoder-decoder, feed-forward.

Each sub-layer is normalised before (what it reads) or after (its sum with the residual stream), as the config says.

Shapes: B batch, T tokens, D model width, E experts.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from components.model.attention import Attention, CrossAttention, Projection
from components.model.config import ModelConfig
from components.model.elementwise import activate, make_norm
from components.model.experts import Experts
from components.model.masks import AttentionPlan


class FeedForward(nn.Module):
    """A two-layer network, its gate and up projections fused where it has a gate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._activation = config.activation
        bias = bool(config.bias)
        two = (config.ffn_dim, config.ffn_dim)
        self.gate_up = Projection(config.dim, sum(two), bias, two) if config.gated else None
        self.up = None if config.gated else Projection(config.dim, config.ffn_dim, bias)
        self.down = Projection(config.ffn_dim, config.dim, bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transforms each token by itself, [B, T, D]."""
        inner = self.gate_up if self.up is None else self.up
        assert inner is not None
        out: Tensor = self.down(activate(self._activation, inner(x_BTD)))
        return out


class Block(nn.Module):
    """One layer.

    Args:
        config: The model's, resolved.
        layer: Its number, under which the cache holds its keys.
        cross: Whether it attends to a source.
    """

    def __init__(self, config: ModelConfig, layer: int, cross: bool = False) -> None:
        super().__init__()
        self._post_norm, self._dropout = bool(config.post_norm), config.dropout
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.cross_norm = make_norm(config) if cross else None
        self.cross = CrossAttention(config, layer) if cross else None
        self.ffn_norm = make_norm(config)
        self.ffn: FeedForward | Experts = Experts(config) if config.num_experts else FeedForward(config)

    def forward(self, x_BTD: Tensor, plan: AttentionPlan) -> tuple[Tensor, Tensor | None]:
        """The residual stream after this layer, [B, T, D], and how its experts were chosen, [2, E], if it has any."""
        x_BTD = self._added(x_BTD, self.attention(self._read(x_BTD, self.attention_norm), plan), self.attention_norm)
        if self.cross is not None and self.cross_norm is not None:
            x_BTD = self._added(x_BTD, self.cross(self._read(x_BTD, self.cross_norm), plan), self.cross_norm)
        written = self.ffn(self._read(x_BTD, self.ffn_norm))
        routing_2E = None
        if isinstance(written, tuple):
            written, routing_2E = written
        return self._added(x_BTD, written, self.ffn_norm), routing_2E

    def _read(self, x_BTD: Tensor, norm: nn.Module) -> Tensor:
        """What a sub-layer reads of the residual stream."""
        if self._post_norm:
            return x_BTD
        normed: Tensor = norm(x_BTD)
        return normed

    def _added(self, x_BTD: Tensor, written_BTD: Tensor, norm: nn.Module) -> Tensor:
        """The residual stream after a sub-layer has written to it."""
        if self._dropout and self.training:
            written_BTD = F.dropout(written_BTD, self._dropout)
        sum_BTD = x_BTD + written_BTD
        if not self._post_norm:
            return sum_BTD
        normed: Tensor = norm(sum_BTD)
        return normed
