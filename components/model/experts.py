"""A mixture of experts in place of one feed-forward network (2101.03961, 2401.04088).

A router gives each token a probability per expert; the token visits the likeliest few, and their outputs are added up,
weighted by those probabilities made to sum to 1. (With a single expert per token that weight would be 1 and teach the
router nothing: there the probability itself is the weight, as in Switch.)

All experts' weights are three-dimensional parameters of one module. So every rank enters the same modules, whatever its
tokens choose, and every weight has a gradient in every step: ZeRO-3 gathers and reduces in lockstep. Tokens are sorted
by expert and multiplied group by group; nothing is dropped, no expert has a capacity.

Shapes: R rows (tokens of the batch), D model width, F width of an expert, E experts, K experts per token, N rows sorted
by expert (R K of them).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from components.model.attention import Projection
from components.model.config import ModelConfig
from components.model.elementwise import activate
from components.model.loss import IGNORED

_GROUPED = (torch.float32, torch.float16, torch.bfloat16)


class Experts(nn.Module):
    """A router and the feed-forward networks it chooses from."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._per_token, self._activation = config.experts_per_token, config.activation
        experts, width, dim = config.num_experts, config.ffn_dim, config.dim
        self.parts = {"gate_up": (width, width)}  # as of `Projection`
        self.router = Projection(dim, experts)
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * width, dim)) if config.gated else None
        self.up = None if config.gated else nn.Parameter(torch.empty(experts, width, dim))
        self.down = nn.Parameter(torch.empty(experts, dim, width))

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Transforms each token by the experts of its choice.

        Returns:
            [B, T, D], and what `balance_loss` needs: the share of tokens that chose each expert and its mean
            probability, [2, E] in fp32.
        """
        x_RD = x_BTD.flatten(0, 1)
        probabilities_RE = self.router(x_RD).float().softmax(-1)
        weights_RK, chosen_RK = probabilities_RE.topk(self._per_token, dim=-1)
        if self._per_token > 1:
            weights_RK = weights_RK / weights_RK.sum(-1, keepdim=True)
        order_N = chosen_RK.flatten().argsort(stable=True)
        rows_N = order_N // self._per_token
        counts_E = torch.zeros_like(probabilities_RE[0]).index_add_(
            0, chosen_RK.flatten(), torch.ones_like(weights_RK).flatten()
        )
        inner = self.gate_up if self.up is None else self.up
        assert inner is not None
        hidden = activate(self._activation, grouped(x_RD[rows_N], inner, counts_E))
        out_ND = grouped(hidden, self.down, counts_E) * weights_RK.flatten()[order_N, None].to(x_RD.dtype)
        out_RD = torch.zeros_like(x_RD, dtype=out_ND.dtype).index_add(0, rows_N, out_ND)
        routing_2E = torch.stack([counts_E / len(x_RD), probabilities_RE.mean(0)])
        return out_RD.view(x_BTD.shape), routing_2E


def grouped(x_ND: Tensor, weight_EFD: Tensor, counts_E: Tensor) -> Tensor:
    """Multiplies each group of rows by its expert's matrix, [N, F].

    torch's grouped product takes neither doubles nor rows that are no multiple of 16 bytes: those go one by one.
    (What is compiled knows it in bf16 only.)
    """
    if torch.is_autocast_enabled(x_ND.device.type):
        dtype = torch.get_autocast_dtype(x_ND.device.type)
        x_ND, weight_EFD = x_ND.to(dtype), weight_EFD.to(dtype)
    size = x_ND.element_size()
    known = x_ND.dtype == torch.bfloat16 if torch.compiler.is_compiling() else x_ND.dtype in _GROUPED
    if known and all(width * size % 16 == 0 for width in weight_EFD.shape[1:]):
        ends_E = counts_E.cumsum(0).to(torch.int32)
        product: Tensor = F.grouped_mm(x_ND.contiguous(), weight_EFD.transpose(1, 2), offs=ends_E)
        return product
    one_by_one: Tensor = _one_by_one(x_ND, weight_EFD, counts_E)
    return one_by_one


@_disable_dynamo
def _one_by_one(x_ND: Tensor, weight_EFD: Tensor, counts_E: Tensor) -> Tensor:
    """Not compiled: it would be compiled anew for every division of the tokens.

    Torch's public decorator imports the compiler, which takes a second, where this one waits for the first call.
    """
    groups = zip(torch.split(x_ND, counts_E.long().tolist()), weight_EFD.unbind(), strict=True)
    return torch.cat([F.linear(rows, weight) for rows, weight in groups])


def balance_loss(routings: list[Tensor]) -> Tensor:
    """Switch's load-balancing loss over all layers, as transformers counts it: K where all experts are used alike.

    Args:
        routings: What the experts of each layer returned, [2, E] each.
    """
    share_E, probability_E = torch.stack(routings).mean(0)
    loss: Tensor = len(share_E) * (share_E * probability_E).sum()
    return loss


def balanced(loss: Tensor, balances: Sequence[Tensor | None], weight: float, targets_BT: Tensor) -> Tensor:
    """A summed loss plus `weight` times each stack's load-balancing loss per scored token.

    A load-balancing loss is one of a whole micro-batch and not a sum over its tokens, so smaller micro-batches give
    (slightly) other gradients.
    """
    for balance in balances:
        if balance is not None:
            loss = loss + weight * balance * (targets_BT != IGNORED).sum()
    return loss
