"""Self-attention and cross attention over torch's kernels and our own, with grouped queries (2305.13245) in both.

num_heads key-value heads are multi-head attention, fewer are grouped-query, one is multi-query attention. Masks,
positions and the cache come in the plan that all blocks of a forward share (`masks.py`).

Shapes: B batch, T tokens, S keys, D model width, H query heads, K key-value heads, N heads of whatever kind, C width of
a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.attention_cpu import attend
from components.model.config import ModelConfig
from components.model.elementwise import RMSNorm
from components.model.masks import AttentionPlan, Documents
from components.model.positions import rotate
from components.model.products import linear


class Projection(nn.Linear):
    """A linear map whose weights the model's own `initialise` fills: torch's default draw would be wasted.

    Attributes:
        parts: Rows of each of the matrices that are fused in its weight, by the weight's name; empty if it is one. An
            optimizer that works on whole matrices reads it.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = False, parts: tuple[int, ...] = ()) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.parts = {"weight": parts} if parts else {}

    def reset_parameters(self) -> None:
        """Leaves the weights to the owner."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps the last dimension."""
        return linear(x, self.weight, self.bias)


Mix: TypeAlias = Callable[[Tensor, Tensor, Tensor, AttentionPlan], Tensor]


class Attention(nn.Module):
    """Self-attention with one fused projection for queries, keys and values.

    Attributes:
        around: Calls the mixing of queries, keys and values in place of this module, where ranks share a sequence: none
            of them has all tokens before that, and none has all heads during it.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.around: Callable[[Mix, Tensor, Tensor, Tensor], Tensor] | None = None
        self._heads, self._kv_heads = config.num_heads, config.num_kv_heads
        self._scale = None if config.scale_attention else 1.0
        self._layer = layer
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        parts = (width, kv_width, kv_width)
        self.qkv = Projection(config.dim, sum(parts), bool(config.bias), parts)
        self.out = Projection(config.num_heads * config.head_dim, config.dim, bool(config.bias))
        self.query_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(self, x_BTD: Tensor, plan: AttentionPlan) -> Tensor:
        """Mixes each token with those it may look at, [B, T, D]."""
        batch, length, _ = x_BTD.shape
        num_turned = self._heads + self._kv_heads
        heads_BTNC = self.qkv(x_BTD).view(batch, length, num_turned + self._kv_heads, -1)
        if plan.intervals is not None and self.around is None and self.query_norm is None:
            mixed_BTHC = attend(heads_BTNC, self._heads, plan.intervals, plan.rope, self._scale)
            whole: Tensor = self.out(mixed_BTHC.flatten(2))
            return whole
        # Split, not sliced: the gradient of a slice is a zero-filled copy of the whole.
        turned_BTNC, values_BTKC = torch.split(heads_BTNC, [num_turned, self._kv_heads], dim=2)
        queries_BTHC, keys_BTKC = self._turned(turned_BTNC, plan)
        if self.around is None:
            mixed_BTX = self._mixed(queries_BTHC, keys_BTKC, values_BTKC, plan)
        else:
            mixed_BTX = self.around(self._mixed, queries_BTHC, keys_BTKC, values_BTKC)
        out: Tensor = self.out(mixed_BTX)
        return out

    def share_heads(self, size: int) -> None:
        """Tells that the matrices will be cut among `size` ranks, each of which has so many fewer heads."""
        self._heads, self._kv_heads = self._heads // size, self._kv_heads // size

    def _mixed(self, queries_BTHC: Tensor, keys_BTKC: Tensor, values_BTKC: Tensor, plan: AttentionPlan) -> Tensor:
        """What each head reads, heads side by side, [B, T, H C]."""
        batch, length = queries_BTHC.shape[:2]
        if plan.documents is not None:
            mixed = _within(plan.documents, queries_BTHC, keys_BTKC, values_BTKC, self._scale)
            return mixed.reshape(batch, length, -1)
        if plan.intervals is not None:
            heads_BTNC = torch.cat([queries_BTHC, keys_BTKC, values_BTKC], dim=2)
            return attend(heads_BTNC, queries_BTHC.shape[2], plan.intervals, None, self._scale).flatten(2)
        queries, keys, values = (part.transpose(1, 2) for part in (queries_BTHC, keys_BTKC, values_BTKC))
        if plan.cache is not None:
            keys, values = plan.cache.append(self._layer, keys, values)
        return mix(queries, keys, values, plan.mask, plan.causal, self._scale)

    def _turned(self, heads_BTNC: Tensor, plan: AttentionPlan) -> tuple[Tensor, Tensor]:
        """Queries and keys, normalised and rotated where the model does so."""
        parts = [self._heads, self._kv_heads]
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = torch.split(heads_BTNC, parts, dim=2)
            queries, keys = self.query_norm(queries), self.key_norm(keys)
            return (queries, keys) if plan.rope is None else (rotate(queries, *plan.rope), rotate(keys, *plan.rope))
        if plan.rope is not None:
            heads_BTNC = rotate(heads_BTNC, *plan.rope)
        queries, keys = torch.split(heads_BTNC, parts, dim=2)
        return queries, keys


class CrossAttention(nn.Module):
    """Attention of a decoder's tokens to the hidden states of the source."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self._kv_heads, self._head_dim = config.num_kv_heads, config.head_dim
        self._scale = None if config.scale_attention else 1.0
        self._layer = layer
        width = config.num_heads * config.head_dim
        self.query = Projection(config.dim, width, bool(config.bias))
        kv_width = config.num_kv_heads * config.head_dim
        self.key_value = Projection(config.dim, 2 * kv_width, bool(config.bias), (kv_width, kv_width))
        self.out = Projection(width, config.dim, bool(config.bias))

    def forward(self, x_BTD: Tensor, plan: AttentionPlan) -> Tensor:
        """Mixes into each token what it looks at in the source, [B, T, D]."""
        batch, length, _ = x_BTD.shape
        queries = self.query(x_BTD).view(batch, length, -1, self._head_dim).transpose(1, 2)
        keys, values = self._source(plan)
        out: Tensor = self.out(mix(queries, keys, values, plan.memory_mask, False, self._scale))
        return out

    def _source(self, plan: AttentionPlan) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, [B, K, S, C] each: from the cache after the first token."""
        if plan.memory is None:
            assert plan.cache is not None
            return plan.cache.crossed[self._layer]
        batch, length, _ = plan.memory.shape
        both_BSNC = self.key_value(plan.memory).view(batch, length, 2 * self._kv_heads, self._head_dim)
        keys, values = torch.split(both_BSNC.transpose(1, 2), self._kv_heads, dim=1)
        if plan.cache is not None:
            plan.cache.crossed[self._layer] = (keys, values)
        return keys, values


def mix(
    queries_BHTC: Tensor,
    keys_BKSC: Tensor,
    values_BKSC: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
) -> Tensor:
    """Scaled dot-product attention, heads side by side afterwards: [B, T, H C].

    Args:
        queries_BHTC: Queries.
        keys_BKSC: Keys; each head serves H / K query heads.
        values_BKSC: Values.
        mask: Added to the scores; of a single token [B, 1 or K, H / K, S].
        causal: Whether a query sees only keys up to its own place.
        scale: Multiplies the scores; None is 1 / sqrt(C).
    """
    batch, _, length, width = queries_BHTC.shape
    kv_heads = keys_BKSC.shape[1]
    if length == 1:
        # Query heads that share keys pose as tokens of one head: the kernel reads the cache once for all of them.
        queries_BHTC = queries_BHTC.reshape(batch, kv_heads, -1, width)
    mixed = F.scaled_dot_product_attention(
        queries_BHTC,
        keys_BKSC,
        values_BKSC,
        mask,
        is_causal=causal,
        enable_gqa=queries_BHTC.shape[1] != kv_heads,
        scale=scale,
    )
    mixed_BTHC = mixed if length == 1 else mixed.transpose(1, 2)
    return mixed_BTHC.reshape(batch, length, -1)


def _within(
    documents: Documents, queries_BTHC: Tensor, keys_BTKC: Tensor, values_BTKC: Tensor, scale: float | None
) -> Tensor:
    """Attention of each document to itself, all rows laid end to end, [B T, H, C]."""
    from torch.nn.attention.varlen import varlen_attn  # 1.6 s of import, for a kernel that CPUs do not have

    mixed = varlen_attn(
        queries_BTHC.flatten(0, 1),
        keys_BTKC.flatten(0, 1),
        values_BTKC.flatten(0, 1),
        documents.starts,
        documents.starts,
        documents.longest,
        documents.longest,
        scale=scale,
        window_size=(-1, 0) if documents.causal else (-1, -1),
        enable_gqa=queries_BTHC.shape[2] != keys_BTKC.shape[2],
    )
    assert isinstance(mixed, Tensor)
    return mixed
