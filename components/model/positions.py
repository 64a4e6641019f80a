"""Where a token stands in its document, and the five ways to tell attention so.

- rope: each head is turned by its position's angles (RoFormer, 2104.09864), by longer wavelengths past the length of
  pretraining if so configured (YaRN 2309.00071, or Llama 3's rule).
- learned, sinusoidal (1706.03762): a vector per position is added to the embedding.
- t5 (1910.10683), alibi (2108.12409): a number per head and distance is added to the attention scores.

Tables are no buffers of the module on purpose: a cast of the model to bf16 would ruin them, a model built on the meta
device would lose them, and ZeRO would have one more thing to broadcast.

Rotary convention: Hugging Face's half split. Element i of the first half of a head pairs with element i of the second;
checkpoints in the interleaved convention of the paper would need their rows permuted.

Shapes: B batch, T tokens (queries), S keys, N heads, H query heads, C head width, D model width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from components.model.config import ModelConfig


@lru_cache(maxsize=16)
def rope_tables(config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, [max_length, C / 2] each, fp32, times YaRN's attention factor."""
    # Made outside inference mode whoever asks first: the training step saves these tensors for its backward pass.
    with torch.inference_mode(False):
        positions = torch.arange(config.max_length, device=device, dtype=torch.float32)
        angles = torch.outer(positions, rope_frequencies(config, device))
        factor = attention_factor(config)
        return (angles.cos(), angles.sin()) if factor == 1 else (angles.cos() * factor, angles.sin() * factor)


def rope_frequencies(config: ModelConfig, device: torch.device) -> Tensor:
    """Radians per token of each pair of a head, [C / 2], fastest first, after scaling."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device=device).float() / config.head_dim
    plain = 1.0 / config.rope_theta**exponents
    if config.rope_scaling == "none":
        return plain
    original = config.rope_original_length or config.max_length / config.rope_factor
    keep = _llama3_keep(config, plain, original) if config.rope_scaling == "llama3" else _yarn_keep(config, original)
    return keep.to(device) * plain + (1 - keep.to(device)) * plain / config.rope_factor


def _llama3_keep(config: ModelConfig, plain: Tensor, original: float) -> Tensor:
    """How much of each frequency is left as it is: by how often its wave fits into the original length."""
    turns = original * plain / (2 * math.pi)
    ramp: Tensor = (turns - config.rope_low_freq) / (config.rope_high_freq - config.rope_low_freq)
    return ramp.clamp(0, 1)


def _yarn_keep(config: ModelConfig, original: float) -> Tensor:
    """As `_llama3_keep`, by YaRN's rule: a ramp over the pairs' numbers, between those of two numbers of turns."""

    def pair_that_turns(times: float) -> float:
        return config.head_dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    first = max(math.floor(pair_that_turns(config.rope_beta_fast)), 0)
    last = min(math.ceil(pair_that_turns(config.rope_beta_slow)), config.head_dim - 1)
    pairs = torch.arange(config.head_dim // 2, dtype=torch.float32)
    return 1 - ((pairs - first) / max(last - first, 1e-3)).clamp(0, 1)


def attention_factor(config: ModelConfig) -> float:
    """What YaRN multiplies queries and keys by: longer contexts need sharper scores (2309.00071, equation 22)."""
    if config.rope_scaling != "yarn":
        return 1.0
    return config.rope_attention_factor or 0.1 * math.log(config.rope_factor) + 1.0


class _Rotate(torch.autograd.Function):
    """Rotation written out, because its gradient is the rotation back: 1.4x faster than autograd over the formula."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors  # type: ignore[attr-defined]
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (out_first, out_second) = x.chunk(2, -1), out.chunk(2, -1)
    # Both halves by the cosines in one pass over whole heads: a pass over halves is short and strided.
    torch.mul(x, torch.cat([cos, cos], -1), out=out)
    out_first.addcmul_(second, sin, value=-1)
    out_second.addcmul_(first, sin)
    return out


def rotate(x_BTNC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each head by its position's angles.

    Args:
        x_BTNC: Queries, keys, or both side by side.
        cos: [T, 1, C / 2], or [B, T, 1, C / 2] where positions differ by row.
        sin: As `cos`.

    Returns:
        [B, T, N, C], contiguous.
    """
    if torch.compiler.is_compiling():
        first, second = x_BTNC.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    if not torch.is_grad_enabled():
        return _rotated(x_BTNC, cos, sin)
    rotated: Tensor = _Rotate.apply(x_BTNC, cos, sin)  # type: ignore[no-untyped-call]
    return rotated


def positions_of(segments_BT: Tensor) -> Tensor:
    """Positions that start at 0 in every run of equal segment numbers, [B, T]."""
    index_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    return index_T - torch.where(starts_of(segments_BT), index_T, 0).cummax(dim=1).values


def starts_of(segments_BT: Tensor) -> Tensor:
    """Where a run of equal segment numbers begins, [B, T]."""
    starts_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    starts_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return starts_BT


@lru_cache(maxsize=16)
def sinusoidal_table(length: int, dim: int, device: torch.device) -> Tensor:
    """Sines in the first half of the columns, cosines in the second, as Marian lays them out; [length, D], fp32."""
    with torch.inference_mode(False):
        exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
        angles = torch.outer(torch.arange(length, dtype=torch.float64), 10000.0**-exponents)
        return torch.cat([angles.sin(), angles[:, : dim // 2].cos()], dim=1).float().to(device)


def alibi_slopes(num_heads: int) -> list[float]:
    """How fast each head's attention falls with distance: 2^(-8 i / H), i from 1, for a power of two of heads.

    Other numbers of heads take the slopes of the power below, then every second one of the power above (the rule of
    ALiBi's authors, and BLOOM's).
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * index / power) for index in range(1, power + 1)]
    return slopes + [2 ** (-4 * index / power) for index in range(1, 2 * (num_heads - power), 2)]


def alibi_bias(distances_TS: Tensor, num_heads: int) -> Tensor:
    """Minus slope times distance, [..., H, T, S], fp32.

    Args:
        distances_TS: Key's position minus query's, [..., T, S].
        num_heads: Query heads.
    """
    slopes = torch.tensor(alibi_slopes(num_heads), device=distances_TS.device)
    return distances_TS.abs().unsqueeze(-3) * -slopes[:, None, None]


def relative_buckets(distances: Tensor, num_buckets: int, max_distance: int, both_ways: bool) -> Tensor:
    """T5's bucket of each distance: one each for near ones, logarithmically wider ones up to `max_distance`.

    Args:
        distances: Key's position minus query's, any shape.
        num_buckets: Buckets in all; where both directions are seen, each has half.
        max_distance: From here on all share the last bucket.
        both_ways: Whether later keys are seen (encoders); else they fall into bucket 0 and are masked anyway.
    """
    offset: Tensor | int = 0
    if both_ways:
        num_buckets //= 2
        offset = (distances > 0) * num_buckets
        far = distances.abs()
    else:
        far = (-distances).clamp(min=0)
    exact = num_buckets // 2
    growth = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (num_buckets - exact)
    wide = (exact + growth.long()).clamp(max=num_buckets - 1)
    return offset + torch.where(far < exact, far, wide)
