"""Cross-entropy over the vocabulary without ever holding all its logits.

At a vocabulary of thousands the logits are the largest tensor of a training step. So they, the loss and both gradients
are computed a few rows at a time, and the memory does not grow with rows times vocabulary: on a CPU in single precision
here, with one pass of our own kernel over the logits, elsewhere by torch's chunked projection.

Shapes: B batch, T tokens, D model width, V vocabulary, R scored rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from components.model import native
from components.model.counting import CHUNK_LOGITS
from components.model.native import Saved
from components.model.products import outer, product

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

    Raises:
        IndexError: On a CPU, if a target is no token of the vocabulary.
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
        least, most = (int(end) for end in targets_R.aminmax())
        if least < 0 or most >= len(weight_VD):
            outside = least if least < 0 else most
            raise IndexError(f"target {outside} is none of the {len(weight_VD)} tokens of the vocabulary")
        if native.serves(hidden_RD) and weight_VD.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            return _summed_here(hidden_RD, weight_VD, targets_R, bias_V)
    return _summed(hidden_RD, weight_VD, targets_R, bias_V)


def _summed_here(hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor, bias_V: Tensor | None) -> Tensor:
    if not torch.is_grad_enabled():
        hidden_RD, weight_VD = hidden_RD.detach(), weight_VD.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    summed: Tensor = _Summed.apply(hidden_RD, weight_VD, targets_R.long(), bias_V)  # type: ignore[no-untyped-call]
    return summed


class _Summed(torch.autograd.Function):
    """The summed loss of rows that all have a target; its gradients are there before they are asked for."""

    @staticmethod
    def forward(ctx: Saved, hidden_RD: Tensor, weight_VD: Tensor, targets_R: Tensor, bias_V: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad  # type: ignore[attr-defined]
        losses_R = hidden_RD.new_empty(len(hidden_RD))
        grad_hidden = torch.empty_like(hidden_RD) if wanted[0] else None
        grad_weight, grad_bias = None, None
        chunk = max(64, CHUNK_LOGITS // len(weight_VD))
        for start in range(0, len(hidden_RD), chunk):
            rows = slice(start, start + chunk)
            logits = product(hidden_RD[rows], weight_VD, bias_V)
            targets = targets_R[rows].contiguous()
            native.call("cross_entropy", logits, targets, losses_R[rows], *logits.shape)
            if grad_hidden is not None:
                grad_hidden[rows] = product(logits, weight_VD.t())
            if wanted[1]:
                grad = outer(logits, hidden_RD[rows])
                grad_weight = grad if grad_weight is None else grad_weight.add_(grad)
            if wanted[3]:
                grad_bias = logits.sum(0) if grad_bias is None else grad_bias.add_(logits.sum(0))
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)  # type: ignore[arg-type]
        return losses_R.sum()

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = (
            None if saved is None else saved * grads[0]
            for saved in ctx.saved_tensors  # type: ignore[attr-defined]
        )
        return hidden, weight, None, bias


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
