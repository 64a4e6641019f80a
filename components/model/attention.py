"""Grouped-query attention (2305.13245) over torch's scaled-dot-product kernel, its masks, and the key-value cache.

Masks are planned once per forward and shared by all blocks. The plain causal case carries no mask at all, which the
kernel runs fastest; packed documents and padded prompts carry one (about 5 % slower on a CPU).

Shapes: B batch, T tokens, S slots of the cache, L layers, D model width, H query heads, K key-value heads, C width of a
head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model.config import ModelConfig
from components.model.positions import positions_of, rope_tables, rotate


class Projection(nn.Linear):
    """A bias-free linear map whose weights the model's own `initialise` fills: torch's default draw would be wasted."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Leaves the weights to the owner."""


class KVCache:
    """Keys and values of the tokens seen so far, for a batch of left-padded prompts; allocated once.

    Left padding makes every row write the same slot, so appending is one slice copy and no row waits for another.

    Attributes:
        length: Slots in use.
        padding_B: Padding slots at the start of each row.
    """

    def __init__(self, config: ModelConfig, padding_B: Tensor, size: int, dtype: torch.dtype) -> None:
        shape = (2, config.num_layers, len(padding_B), config.num_kv_heads, size, config.head_dim)
        self._slots_2LBKSC = torch.empty(shape, dtype=dtype, device=padding_B.device)
        self._size = size
        self._ragged = bool((padding_B > 0).any())
        self.padding_B = padding_B
        self.length = 0

    def append(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new keys and values; returns views of all of them so far, [B, K, S, C] each."""
        end = self.length + keys_BKTC.shape[2]
        self._slots_2LBKSC[0, layer, :, :, self.length : end] = keys_BKTC
        self._slots_2LBKSC[1, layer, :, :, self.length : end] = values_BKTC
        keys, values = self._slots_2LBKSC[:, layer, :, :, :end]
        return keys, values

    def advance(self, num_tokens: int) -> None:
        """Counts the tokens that every layer has now appended."""
        self.length += num_tokens

    def keep(self, rows: Tensor) -> None:
        """Forgets all rows but these (indices, in order)."""
        self._slots_2LBKSC = self._slots_2LBKSC.index_select(2, rows)
        self.padding_B = self.padding_B[rows]
        self._ragged = bool((self.padding_B > 0).any())

    def positions(self, num_tokens: int) -> Tensor:
        """Positions of the next tokens in their own row, [B, T]; 0 for padding."""
        slots_T = torch.arange(self.length, self.length + num_tokens, device=self.padding_B.device)
        return (slots_T - self.padding_B[:, None]).clamp_(min=0)

    def mask(self, num_tokens: int) -> Tensor | None:
        """Which slot each new token may look at, [B, 1, T, S]; None where the causal rule alone says it."""
        end = self.length + num_tokens
        if not self._ragged and (self.length == 0 or num_tokens == 1):
            return None
        slots_S = torch.arange(end, device=self.padding_B.device)
        slots_T = slots_S[self.length :]
        real_B1S = slots_S >= self.padding_B[:, None, None]
        # A padding token looks at itself: a softmax over nothing would put NaN into the batch.
        allowed_BTS = (real_B1S & (slots_S <= slots_T[:, None])) | (slots_S == slots_T[:, None])
        return allowed_BTS[:, None]


@dataclass(frozen=True)
class AttentionPlan:
    """What all blocks of one forward share.

    Attributes:
        cos: Rotary cosines, [T, 1, C / 2] or [B, T, 1, C / 2].
        sin: Rotary sines, likewise.
        mask: Added to the scores, 0 or -inf, broadcastable to [B, H, T, S]; None for the kernel's own causal rule.
        causal: Whether the kernel applies the causal rule itself.
        cache: Where keys and values are kept, if anywhere.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    causal: bool
    cache: KVCache | None


def plan_attention(
    config: ModelConfig,
    tokens_BT: Tensor,
    dtype: torch.dtype,
    positions_BT: Tensor | None,
    segments_BT: Tensor | None,
    cache: KVCache | None,
) -> AttentionPlan:
    """Works out positions and mask of one forward.

    Positions default to the place in the row, in the segment, or after what the cache holds.

    Raises:
        ValueError: If the tokens reach beyond `max_length`, or segments and a cache come together.
    """
    length = tokens_BT.shape[1]
    end = length + (cache.length if cache else 0)
    if end > config.max_length and positions_BT is None:
        raise ValueError(f"a sequence of {end} tokens is longer than model.max_length={config.max_length}")
    mask = None
    if cache is not None:
        if segments_BT is not None:
            raise ValueError("packed segments have no cache: generate from one prompt per row")
        mask = cache.mask(length)
        positions_BT = cache.positions(length) if positions_BT is None else positions_BT
    elif segments_BT is not None:
        mask = segment_mask(segments_BT)
        positions_BT = positions_of(segments_BT) if positions_BT is None else positions_BT
    cos, sin = rope_tables(config.max_length, config.head_dim, config.rope_theta, tokens_BT.device)
    cos, sin = (cos[:length], sin[:length]) if positions_BT is None else (cos[positions_BT], sin[positions_BT])
    cos, sin = cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)
    if mask is not None:
        # The kernel would turn a boolean mask into this one in every block.
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
    return AttentionPlan(cos, sin, mask, causal=mask is None and length > 1, cache=cache)


def segment_mask(segments_BT: Tensor) -> Tensor:
    """Block-diagonal causal mask of packed rows: a token sees earlier tokens of its own segment, [B, 1, T, T]."""
    length = segments_BT.shape[1]
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    return same_BTT.tril_()[:, None] if length else same_BTT[:, None]


class Attention(nn.Module):
    """Causal self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self._heads, self._kv_heads = config.num_heads, config.num_kv_heads
        self._layer = layer
        width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        self.qkv = Projection(config.dim, width)
        self.out = Projection(config.dim, config.dim)

    def forward(self, x_BTD: Tensor, plan: AttentionPlan) -> Tensor:
        """Mixes each token with those it may look at, [B, T, D]."""
        batch, length, dim = x_BTD.shape
        num_turned = self._heads + self._kv_heads
        heads_BTNC = self.qkv(x_BTD).view(batch, length, num_turned + self._kv_heads, -1)
        # Split, not sliced: the gradient of a slice is a zero-filled copy of the whole.
        turned_BTNC, values_BTKC = torch.split(heads_BTNC, [num_turned, self._kv_heads], dim=2)
        turned_BTNC = rotate(turned_BTNC, plan.cos, plan.sin)
        queries_BTHC, keys_BTKC = torch.split(turned_BTNC, [self._heads, self._kv_heads], dim=2)
        queries, keys, values = (part.transpose(1, 2) for part in (queries_BTHC, keys_BTKC, values_BTKC))
        if plan.cache is not None:
            keys, values = plan.cache.append(self._layer, keys, values)
        if length == 1:
            # Query heads that share keys pose as tokens of one head: the kernel reads the cache once for all of them.
            queries = queries.reshape(batch, self._kv_heads, -1, queries.shape[-1])
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, plan.mask, is_causal=plan.causal, enable_gqa=queries.shape[1] != self._kv_heads
        )
        mixed_BTHC = mixed if length == 1 else mixed.transpose(1, 2)
        out: Tensor = self.out(mixed_BTHC.reshape(batch, length, dim))
        return out
