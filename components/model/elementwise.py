"""Norms and activations; root-mean-square norm (1910.07467) and SwiGLU (2002.05202).

Everything in a block that is no matrix product is bound by memory, and autograd over the plain formulas passes over it
more often than needed. On a CPU in single precision norm and activations are our own kernels (docs/benchmarks.md).
Elsewhere the plain formulas remain: on CUDA kernels are fused already, or by the compiler; code that is being compiled
sees them too.

Shapes: R rows (all leading dimensions together), D model width, F gate width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model import native
from components.model.config import ModelConfig
from components.model.native import Saved

_NORM_ROWS = 256
"""Rows whose share of the weight's gradient is summed by one thread."""


class _RMSNorm(torch.autograd.Function):
    """y = x w / rms(x) by our kernel. With n = x / rms(x): dx = (g w - n mean(g w n)) / rms(x), dw = sum of g n."""

    @staticmethod
    def forward(ctx: Saved, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        rows = x.numel() // width
        normed, scales_R = torch.empty_like(x), x.new_empty(rows)
        native.call("rms_norm_forward", x, weight_D, normed, scales_R, eps, rows, width)
        ctx.save_for_backward(x, weight_D, scales_R)
        return normed

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight_D, scales_R = ctx.saved_tensors  # type: ignore[attr-defined]
        rows, width = len(scales_R), len(weight_D)
        grad_x, shares = torch.empty_like(x), x.new_empty(-(-rows // _NORM_ROWS), width)
        grad = grads[0].contiguous()
        native.call("rms_norm_backward", x, weight_D, scales_R, grad, grad_x, shares, _NORM_ROWS, rows, width)
        return grad_x, shares.sum(0), None


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Scales each row of `x` to unit root mean square, then by `weight_D`; same shape and type as `x`."""
    if native.serves(x) and weight_D.dtype == torch.float32:
        normed: Tensor = _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]
        return normed
    return F.rms_norm(x, weight_D.shape, weight_D, eps)


class _SwiGLU(torch.autograd.Function):
    """silu(a) b by our kernel. Both gradients are written side by side, where the fused projection wants them."""

    @staticmethod
    def forward(ctx: Saved, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        gated = gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
        native.call("swiglu_forward", gate_up, gated, gated.numel() // gated.shape[-1], gated.shape[-1])
        return gated

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grad, result = grads[0].contiguous(), torch.empty_like(gate_up)
        native.call("swiglu_backward", gate_up, grad, result, grad.numel() // grad.shape[-1], grad.shape[-1])
        return result


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(first half) * second half of the last dimension: [..., 2 F] to [..., F]."""
    if native.serves(gate_up):
        gated: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
        return gated
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _GELU(torch.autograd.Function):
    """GELU's tanh form by our kernel, as x sigmoid(2 u): torch's takes a tanh of its own, and twice the time."""

    @staticmethod
    def forward(ctx: Saved, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        activated = torch.empty_like(x)
        native.call("gelu_forward", x, activated, x.numel())
        return activated

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        result = torch.empty_like(x)
        native.call("gelu_backward", x, grads[0].contiguous(), result, x.numel())
        return result


class RMSNorm(nn.Module):
    """Scales each row to unit root mean square, then by a learned weight."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and type as `x`."""
        return rms_norm(x, self.weight, self._eps)


def make_norm(config: ModelConfig) -> RMSNorm | nn.LayerNorm:
    """The norm a resolved config asks for, over the model's width."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.dim, config.norm_eps)
    return nn.LayerNorm(config.dim, config.norm_eps, bias=bool(config.bias))


def _geglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def _gelu_tanh(x: Tensor) -> Tensor:
    if native.serves(x):
        activated: Tensor = _GELU.apply(x)  # type: ignore[no-untyped-call]
        return activated
    return F.gelu(x, approximate="tanh")


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": swiglu,
    "geglu": _geglu,
    "gelu": F.gelu,
    "gelu-tanh": _gelu_tanh,
    "relu": F.relu,
    "relu2": _relu2,
    "silu": F.silu,
}


def activate(name: str | None, x: Tensor) -> Tensor:
    """Applies the activation of that name; a gated one halves the last dimension (gate first)."""
    assert name is not None
    return _ACTIVATIONS[name](x)
