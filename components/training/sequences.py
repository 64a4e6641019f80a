"""Sequence parallelism (Ulysses, 2309.14509): the ranks of a group share every sequence, each with a slice of it.

All of a Transformer but attention works on each token by itself. Around attention, and only there, the ranks swap: each
gives away its tokens of most heads and gets all tokens of some heads, mixes those, and swaps back. The model does not
know: it is given a slice with its positions, and its attention modules are handed what to call around their mixing.

The loss comes out whole on every rank of a group while its gradient is that of the rank's own slice: summed over ranks,
as every engine does, that is the gradient of the whole.

Shapes: B batch, T tokens, S tokens of a slice (T / ranks of the group), H query heads, K key-value heads, C width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.errors import StepError
from components.model.attention import Attention, Mix
from components.model.config import resolved
from components.model.masks import AttentionPlan, plan_attention
from components.model.positions import positions_of
from components.model.transformer import Transformer
from components.training.checks import check_length, check_sequences


class SharedSequences(nn.Module):
    """A Transformer that trains on this rank's slice of every sequence.

    Args:
        inner: The model; its attention is told to swap.
        group: The ranks that share sequences.

    Raises:
        StepError: If the model cannot be cut up like that.
    """

    def __init__(self, inner: nn.Module, group: dist.ProcessGroup) -> None:
        super().__init__()
        self._size, self._place = dist.get_world_size(group), dist.get_rank(group)
        self.inner = _check(inner, self._size)
        self._group = group
        self._config = resolved(self.inner.config)
        self._swap = _Swap(group)
        for module in inner.modules():
            if isinstance(module, Attention):
                module.around = self._swap

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """The sum of the cross-entropies of whole sequences, as `Transformer.forward` gives it.

        Raises:
            StepError: If the sequences do not divide over the ranks.
        """
        check_length(tokens_BT.shape[1], self._size)
        self._swap.plan = plan_attention(
            self._config,
            tokens_BT,
            self.inner.backbone.embed.weight.dtype,
            None,
            segments_BT,
            causal=self._config.causal,
        )
        positions_BT = self._positions(tokens_BT, positions_BT, segments_BT)
        tokens_BS, targets_BS, positions_BS = (self._slice(one) for one in (tokens_BT, targets_BT, positions_BT))
        loss: Tensor = self.inner(tokens_BS, targets_BS, positions_BT=positions_BS)
        total: Tensor = _SumOfSlices.apply(loss, self._group)  # type: ignore[no-untyped-call]
        return total

    def _positions(self, tokens_BT: Tensor, positions_BT: Tensor | None, segments_BT: Tensor | None) -> Tensor:
        if positions_BT is not None:
            return positions_BT
        if segments_BT is not None:
            return positions_of(segments_BT)
        return torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)

    def _slice(self, whole_BT: Tensor) -> Tensor:
        """This rank's part of each row."""
        return whole_BT.chunk(self._size, dim=1)[self._place].contiguous()


class _Swap:
    """Called by attention in place of its mixing: all heads of a slice become some heads of all tokens, and back.

    DeepSpeed's `DistributedAttention` moves the data. The plan is that of the whole sequences of the current forward.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.plan: AttentionPlan | None = None
        self._group = group

    def __call__(self, mix: Mix, queries_BSHC: Tensor, keys_BSKC: Tensor, values_BSKC: Tensor) -> Tensor:
        """What each head reads for the tokens of this slice, [B, S, H C]."""
        from deepspeed.sequence.layer import DistributedAttention

        plan = self.plan
        assert plan is not None

        def some_heads(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return mix(queries, keys, values, plan).view_as(queries)

        swap: Any = DistributedAttention(some_heads, self._group, scatter_idx=2, gather_idx=1)
        mixed_BSHC: Tensor = swap(queries_BSHC, keys_BSKC, values_BSKC, 0)
        return mixed_BSHC.flatten(2)


class _SumOfSlices(torch.autograd.Function):
    """The sum of a scalar over a group, whose gradient goes to this rank's own part alone."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:  # noqa: ANN401
        total = part.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient, None


def _check(model: nn.Module, size: int) -> Transformer:
    """Refuses what cannot be cut into slices of tokens and groups of heads exactly."""
    if not isinstance(model, Transformer):
        where = f"training.sequence_parallel={size}"
        raise StepError("Ranks can share the sequences of a language model of one stack only.", where, "set it to 1")
    check_sequences(model.config, size)
    return model
