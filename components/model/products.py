"""Matrix products on a CPU in single precision by the library that is fast on it.

torch multiplies by MKL, which leaves the AVX-512 of AMD's processors idle; oneDNN, which torch has as well, does not:
109 beside 250 GFLOP/s on one core of a Zen 5, 96 beside 106 on one of a Zen 4, whose units are half as wide. Elsewhere
MKL is as fast or faster, so it stays. What decides is the processor and not a clock: the same machine always computes
the same bits.

Shapes: R rows, I inputs of a linear map, O its outputs.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from components.model import native
from components.model.native import Saved

_WORTHWHILE = 1 << 23
"""Multiplications of a product below which oneDNN's own call takes longer than it saves."""


def _leaves_avx512_idle() -> bool:
    """Whether torch's products run by MKL on a processor of AMD's with AVX-512, and oneDNN is there."""
    if os.environ.get("HEADWATER_NATIVE") == "0":
        return False
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_both) and "AuthenticAMD" in told and " avx512f " in told


_BY_ONEDNN = _leaves_avx512_idle()


def product(a_MK: Tensor, b_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """The first matrix times the second one's transpose, and the bias: [M, N]. Any strides; no gradient."""
    if _serves(a_MK, b_NK):
        known = torch.ops.headwater.product if torch.compiler.is_compiling() else _by_onednn
        result: Tensor = known(a_MK, b_NK, bias_N)
        return result
    return torch.mm(a_MK, b_NK.t()) if bias_N is None else torch.addmm(bias_N, a_MK, b_NK.t())


def outer(a_RM: Tensor, b_RN: Tensor) -> Tensor:
    """The first matrix's transpose times the second: [M, N], its longer side the last in memory. No gradient."""
    if a_RM.shape[1] > b_RN.shape[1]:
        return product(b_RN.t(), a_RM.t()).t()  # the first factor is copied: the smaller one
    return product(a_RM.t(), b_RN.t())


def rows_of(x: Tensor) -> Tensor:
    """The same matrix, row after row in memory."""
    if x.is_contiguous() or not x.t().is_contiguous() or not native.serves(x):
        return x.contiguous()
    turned = x.new_empty(x.shape)
    native.call("transpose", x.t(), turned, x.shape[1], x.shape[0])
    return turned


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: [..., I] to [..., O]."""
    if torch.is_autocast_enabled("cpu") or not _serves(x.flatten(0, -2), weight_OI):
        return F.linear(x, weight_OI, bias_O)
    mapped: Tensor = _Linear.apply(x, weight_OI, bias_O)  # type: ignore[no-untyped-call]
    return mapped


def _serves(a_MK: Tensor, b_NK: Tensor) -> bool:
    alike = a_MK.dtype == b_NK.dtype == torch.float32 and a_MK.device.type == b_NK.device.type == "cpu"
    return _BY_ONEDNN and alike and a_MK.numel() * b_NK.shape[0] >= _WORTHWHILE


class _Linear(torch.autograd.Function):
    """A linear map whose three products are `product`'s."""

    @staticmethod
    def forward(ctx: Saved, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        return product(x.flatten(0, -2), weight_OI, bias_O).view(*x.shape[:-1], weight_OI.shape[0])

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_OI = ctx.saved_tensors  # type: ignore[attr-defined]
        wanted = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_RO, x_RI = grads[0].flatten(0, -2), x.flatten(0, -2)
        return (
            product(grad_RO, weight_OI.t()).view(x.shape) if wanted[0] else None,
            rows_of(outer(grad_RO, x_RI)) if wanted[1] else None,
            grad_RO.sum(0) if wanted[2] else None,
        )


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows_of(a), b, bias, "none", [], "")
    return result


_OPERATORS = torch.library.Library("headwater", "FRAGMENT")  # type: ignore[no-untyped-call]
_OPERATORS.define("product(Tensor a, Tensor b, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]
_OPERATORS.impl("product", _by_onednn, "CPU")  # type: ignore[no-untyped-call]
_OPERATORS.impl("product", lambda a, b, _: a.new_empty(a.shape[0], b.shape[0]), "Meta")  # type: ignore[no-untyped-call]
