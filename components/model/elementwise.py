"""Norms and activations; root-mean-square norm (1910.07467) and SwiGLU (2002.05202) with their gradients written out.

Everything in a block that is no matrix product is bound by memory, and autograd over the plain formulas passes over it
more often than needed. On a CPU the norm, written out, takes half the time, and the activations by our own kernels 0.4
of it (docs/benchmarks.md). On CUDA in half precision the plain formulas remain: there kernels are fused already, or by
the compiler; code that is being compiled sees them too.

Shapes: R rows (all leading dimensions together), D model width, F gate width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.model import native
from components.model.config import ModelConfig

Saved: TypeAlias = torch.autograd.function.FunctionCtx


class _RMSNorm(torch.autograd.Function):
    """y = x w / rms(x). With n = x / rms(x): dx = (g w - n mean(g w n)) / rms(x), dw = sum over rows of g n."""

    @staticmethod
    def forward(ctx: Saved, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_RD = x.reshape(-1, x.shape[-1])
        scale_R1 = _inverse_rms(x_RD, eps)
        ctx.save_for_backward(x_RD, weight_D, scale_R1)
        return (x_RD * scale_R1).mul_(weight_D).view(x.shape)

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_RD, weight_D, scale_R1 = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_RD = grads[0].reshape(x_RD.shape)
        normed_RD = x_RD * scale_R1
        product_RD = grad_RD * normed_RD
        mean_R1 = torch.mv(product_RD, weight_D).div_(x_RD.shape[-1]).unsqueeze(1)
        grad_x = torch.addcmul(grad_RD * weight_D, normed_RD, mean_R1, value=-1).mul_(scale_R1)
        return grad_x.view(grads[0].shape), product_RD.sum(0), None


def _inverse_rms(x_RD: Tensor, eps: float) -> Tensor:
    norm_R1: Tensor = torch.linalg.vector_norm(x_RD, dim=-1, keepdim=True)
    return norm_R1.square_().div_(x_RD.shape[-1]).add_(eps).rsqrt_()


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Scales each row of `x` to unit root mean square, then by `weight_D`; same shape and type as `x`."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.rms_norm(x, weight_D.shape, weight_D, eps)
    if not torch.is_grad_enabled():
        return (x * _inverse_rms(x, eps)).mul_(weight_D)
    normed: Tensor = _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]
    return normed


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
