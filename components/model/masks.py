"""Who may look at whom: one plan per forward, shared by all blocks.

The plain causal case carries no mask at all, which the kernel runs fastest. Packed rows are isolated by the segment
numbers of their tokens, in one of three ways:

    varlen   the row is cut into its documents and torch's variable-length kernel sees each by itself: no score between
             documents is ever computed. CUDA in half precision, no bias on the scores, no cache.
    kernel   each query sees one interval of keys, in our own kernel (`attention_cpu`), which serves rows of one
             document as well. CPUs in single precision, no bias on the scores, no cache.
    mask     a block-diagonal mask is added to the scores. Everywhere.

`explain_attention` says in one sentence which one a model gets and why. FlexAttention is not used: it has no backward
pass on a CPU, and where it has one, varlen does the same work without a compiler.

Shapes: B batch, T tokens (queries), S keys, H query heads, K key-value heads, C width of a head, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.model.attention_cpu import WIDEST, Intervals
from components.model.cache import KVCache
from components.model.config import ModelConfig, resolved
from components.model.native import why_not
from components.model.positions import alibi_bias, positions_of, relative_buckets, rope_tables, starts_of

HALF = (torch.float16, torch.bfloat16)
DISTANCES = ("alibi", "t5")


@dataclass(frozen=True)
class Documents:
    """The documents of packed rows, laid end to end, for the variable-length kernel.

    Attributes:
        starts: Where each begins, and where the last one ends, int32 [N + 1].
        longest: Tokens of the longest.
        causal: Whether a token sees only itself and those before it in its document.
    """

    starts: Tensor
    longest: int
    causal: bool


@dataclass(frozen=True)
class AttentionPlan:
    """What all blocks of one forward share.

    Attributes:
        positions: Position of each token, [T] or [B, T].
        rope: Rotary cosines and sines, [T, 1, C / 2] or [B, T, 1, C / 2] each; None without rotary positions.
        mask: Added to the scores, broadcastable to [B, H, T, S]: -inf where nobody looks, else 0 or the bias of the
            distance. None where the kernel's own rule suffices.
        causal: Whether the kernel applies the causal rule itself.
        documents: Set for the variable-length kernel.
        intervals: Set for our own kernel.
        cache: Where keys and values are kept, if anywhere.
        memory: Hidden states of the source, [B, S, D], for cross attention; None where the cache has their keys.
        memory_mask: As `mask`, for cross attention.
    """

    positions: Tensor
    rope: tuple[Tensor, Tensor] | None
    mask: Tensor | None
    causal: bool
    documents: Documents | None = None
    intervals: Intervals | None = None
    cache: KVCache | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


def attention_backend(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    """How packed rows are isolated: "varlen", "kernel" or "mask"."""
    return _backend(resolved(config), device, dtype)


def _backend(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    if _why_mask(config, device, dtype):
        return "mask"
    return "kernel" if device.type == "cpu" else "varlen"


def explain_attention(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    """One sentence for the log: how packed documents are kept apart, and why so."""
    reason = _why_mask(resolved(config), device, dtype)
    if reason:
        return f"Packed documents are kept apart by a block-diagonal mask, because {reason}."
    kernel = "our own kernel" if device.type == "cpu" else "torch's variable-length kernel"
    return f"Packed documents are kept apart by {kernel}, which computes no score between them."


def _why_mask(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
    """Why no kernel can keep documents apart; empty if one can. The first row that holds is the reason."""
    biased = (config.positions in DISTANCES, f"{config.positions} positions are added to the scores")
    too_wide = f"heads {config.head_dim} wide do not fit the kernel"
    if device.type == "cpu":
        on_cpu = (
            (dtype != torch.float32, f"our kernel for CPUs knows single precision only, not {str(dtype)[6:]}"),
            biased,
            (config.head_dim > WIDEST, too_wide),
        )
        return next((reason for applies, reason in on_cpu if applies), "") or why_not()
    table = (
        (device.type != "cuda", f"torch has no variable-length kernel for {device.type}"),
        (dtype not in HALF, f"the variable-length kernel knows half precision only, not {str(dtype)[6:]}"),
        biased,
        (config.head_dim % 8 != 0 or config.head_dim > 256, too_wide),
    )
    return next((reason for applies, reason in table if applies), "")


def plan_attention(
    config: ModelConfig,
    tokens_BT: Tensor,
    dtype: torch.dtype,
    positions_BT: Tensor | None = None,
    segments_BT: Tensor | None = None,
    cache: KVCache | None = None,
    *,
    causal: bool = True,
    relative: nn.Module | None = None,
    memory: tuple[Tensor | None, Tensor | None] = (None, None),
) -> AttentionPlan:
    """Works out positions and mask of one forward.

    Positions default to the place in the row, in the segment, or after what the cache holds.

    Args:
        config: The model's, resolved.
        tokens_BT: Its shape and device count.
        dtype: Type of the scores.
        positions_BT: Position of each token.
        segments_BT: Tokens see each other only within equal numbers.
        cache: Keys of earlier tokens.
        causal: Whether a token sees only itself and those before it.
        relative: "t5": maps a bucket to a number per head, [...] to [..., H].
        memory: Hidden states of the source and what is added to the scores of cross attention.

    Raises:
        ValueError: If the tokens reach beyond `max_length`, or segments and a cache come together.
    """
    length, device = tokens_BT.shape[1], tokens_BT.device
    end = length + (cache.length if cache else 0)
    if end > config.max_length and positions_BT is None:
        raise ValueError(f"a sequence of {end} tokens is longer than model.max_length={config.max_length}")
    if cache is not None and segments_BT is not None:
        raise ValueError("packed segments have no cache: generate from one prompt per row")
    if cache is not None and positions_BT is not None and config.positions in DISTANCES:
        raise ValueError(f"{config.positions} positions are distances between slots of the cache: give no positions")
    backend = _backend(config, device, dtype)
    documents, intervals, visible = None, None, None
    if cache is not None:
        visible = cache.visible(length)
    elif backend == "kernel" and length > 1:
        intervals = intervals_of(tokens_BT.new_zeros(tokens_BT.shape) if segments_BT is None else segments_BT, causal)
    elif segments_BT is not None and backend == "varlen":
        documents = documents_of(segments_BT, causal)
    elif segments_BT is not None:
        visible = segments_see(segments_BT, segments_BT, causal)
    bias = _bias(config, length, end, positions_BT, device, causal, relative)
    if bias is not None and visible is None and causal and length > 1:
        visible = torch.ones(length, end, dtype=torch.bool, device=device).tril_(end - length)
    numbers = _positions(positions_BT, segments_BT, cache, length, device)
    return AttentionPlan(
        positions=torch.arange(length, device=device) if numbers is None else numbers,
        rope=_rope(config, numbers, length, device, dtype) if config.positions == "rope" else None,
        mask=_per_kv_head(added_mask(visible, dtype, bias), length, config.num_kv_heads),
        causal=causal and visible is None and documents is None and intervals is None and length > 1,
        documents=documents,
        intervals=intervals,
        cache=cache,
        memory=memory[0],
        memory_mask=memory[1],
    )


def added_mask(visible: Tensor | None, dtype: torch.dtype, bias: Tensor | None = None) -> Tensor | None:
    """What is added to the scores: the bias where a key is visible, -inf where not.

    The kernel would turn a boolean mask into this one in every block.
    """
    if visible is None:
        return None if bias is None else bias.to(dtype)
    if bias is None:
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
    return torch.where(visible, bias.to(dtype), -torch.inf)


def segments_see(queries_BT: Tensor, keys_BS: Tensor, causal: bool) -> Tensor:
    """Block-diagonal mask of packed rows: a token sees those of its own segment, [B, 1, T, S]."""
    same_BTS = queries_BT[:, :, None] == keys_BS[:, None, :]
    return (same_BTS.tril_() if causal else same_BTS)[:, None]


def source_mask(source_segments_BS: Tensor, segments_BT: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What target tokens see of the source, as added to the scores, [B, 1, T or 1, S].

    Args:
        source_segments_BS: Segment of each source token, -1 for padding.
        segments_BT: Segment of each target token: it sees the source of equal number. None sees all but padding.
        dtype: Type of the scores.
    """
    if segments_BT is None:
        visible = (source_segments_BS >= 0)[:, None, None, :]
    else:
        visible = segments_see(segments_BT, source_segments_BS, causal=False)
    # A token without a source looks everywhere: a softmax over nothing would put NaN into the batch.
    mask = added_mask(visible | ~visible.any(-1, keepdim=True), dtype)
    assert mask is not None
    return mask


def documents_of(segments_BT: Tensor, causal: bool) -> Documents:
    """The runs of equal segment numbers in all rows, end to end. Waits for the accelerator once."""
    starts_N = starts_of(segments_BT).flatten().nonzero().squeeze(1)
    starts_N1 = torch.cat([starts_N, starts_N.new_tensor([segments_BT.numel()])])
    return Documents(starts_N1.to(torch.int32), int(starts_N1.diff().max()), causal)


def intervals_of(segments_BT: Tensor, causal: bool) -> Intervals:
    """The keys that each token sees: those of its run of equal segment numbers, up to itself if causal."""
    starts_BT = starts_of(segments_BT)
    index_T = torch.arange(segments_BT.shape[1], device=segments_BT.device, dtype=torch.int32)
    first_BT = torch.where(starts_BT, index_T, 0).cummax(dim=1).values
    if causal:
        return Intervals(first_BT, (index_T + 1).expand_as(first_BT).contiguous())
    ends_BT = starts_BT.roll(-1, dims=1)
    ends_BT[:, -1] = True
    after_BT = torch.where(ends_BT, index_T + 1, len(index_T)).flip(1).cummin(dim=1).values.flip(1)
    return Intervals(first_BT, after_BT)


def _positions(
    positions_BT: Tensor | None, segments_BT: Tensor | None, cache: KVCache | None, length: int, device: torch.device
) -> Tensor | None:
    """Position of each token, [B, T]; None where it is the place in the row."""
    if positions_BT is not None:
        return positions_BT
    if cache is not None:
        return cache.positions(length)
    return None if segments_BT is None else positions_of(segments_BT)


def _rope(
    config: ModelConfig, numbers: Tensor | None, length: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    cos, sin = rope_tables(config, device)
    cos, sin = (cos[:length], sin[:length]) if numbers is None else (cos[numbers], sin[numbers])
    return cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)


def _bias(
    config: ModelConfig,
    length: int,
    end: int,
    positions_BT: Tensor | None,
    device: torch.device,
    causal: bool,
    relative: nn.Module | None,
) -> Tensor | None:
    """What a distance adds to the scores, [1 or B, H, T, S]. Distances are those of slots where no position is given.

    Within a document they are the same; between documents nobody looks.
    """
    if config.positions not in DISTANCES:
        return None
    if positions_BT is not None:
        distances = positions_BT[:, None, :] - positions_BT[:, :, None]
    else:
        slots_S = torch.arange(end, device=device)
        distances = (slots_S - slots_S[end - length :, None])[None]
    if relative is None:
        return alibi_bias(distances, config.num_heads)
    buckets = relative_buckets(distances, config.relative_buckets, config.relative_max_distance, not causal)
    bias: Tensor = relative(buckets).movedim(-1, 1)
    return bias


def _per_kv_head(mask: Tensor | None, length: int, num_kv_heads: int) -> Tensor | None:
    """Of a single token the heads that share keys pose as tokens of one head: so does what is added to their scores."""
    if mask is None or length != 1 or mask.shape[1] == 1:
        return mask
    return mask.reshape(mask.shape[0], num_kv_heads, -1, mask.shape[-1])
