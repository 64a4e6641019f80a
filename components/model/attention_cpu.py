"""Self-attention on a CPU in single precision, by our own kernel (`kernels/attention.cpp`), as an operator of torch.

Torch's kernel computes the scores that a causal rule hides, needs a mask as large as the scores to keep packed
documents apart, and reads queries and keys that were turned, split and stored before. Ours takes 0.4 of its time
(docs/benchmarks.md).

Shapes: B batch, T tokens, H query heads, K key-value heads, C width of a head.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from components.model import native
from components.model.native import Saved

WIDEST = 256
"""Of a head that the kernel knows."""


@dataclass(frozen=True)
class Intervals:
    """The keys that each query sees: first <= s < last, both int32 [B, T] and contiguous."""

    first: Tensor
    last: Tensor


class _Shape(ctypes.Structure):
    """`Shape` of kernels/attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "heads", "kv_heads", "width", "angles_row")),
        *((name, ctypes.c_void_p) for name in ("first", "last", "cos", "sin")),
        ("scale", ctypes.c_float),
    )


def attend(
    heads_BTNC: Tensor,
    num_heads: int,
    intervals: Intervals,
    rope: tuple[Tensor, Tensor] | None,
    scale: float | None,
) -> Tensor:
    """Scaled dot-product attention of a row to itself, [B, T, H, C].

    Args:
        heads_BTNC: Queries, keys and values side by side, [B, T, H + 2 K, C]; under autocast they come in half
            precision, are mixed in single, and leave as they came.
        num_heads: Query heads, H.
        intervals: The keys that each query sees.
        rope: Cosines and sines that queries and keys are turned by, [T, 1, C / 2] or [B, T, 1, C / 2] each.
        scale: Multiplies the scores; None is 1 / sqrt(C).
    """
    cos, sin = (None, None) if rope is None else (rope[0].contiguous(), rope[1].contiguous())
    scale = heads_BTNC.shape[-1] ** -0.5 if scale is None else scale
    heads = heads_BTNC.float().contiguous()
    mixed: Tensor = torch.ops.headwater.attend(heads, num_heads, intervals.first, intervals.last, cos, sin, scale)[0]
    return mixed.to(heads_BTNC.dtype)


def _forward(
    heads: Tensor, num_heads: int, first: Tensor, last: Tensor, cos: Tensor | None, sin: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """What each head reads, [B, T, H, C], and the logarithm of each row's sum, [B, H, T]."""
    mixed, log_sum = _like(heads, num_heads)
    native.call("attention_forward", _shape(heads, num_heads, first, last, cos, sin, scale), heads, mixed, log_sum)
    return mixed, log_sum


def _backward(
    grad: Tensor,
    heads: Tensor,
    mixed: Tensor,
    log_sum: Tensor,
    first: Tensor,
    last: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    scale: float,
) -> Tensor:
    """The gradient of the heads, of their shape."""
    grads = torch.empty_like(heads)
    shape = _shape(heads, mixed.shape[2], first, last, cos, sin, scale)
    native.call("attention_backward", shape, heads, mixed, log_sum, grad.contiguous(), grads)
    return grads


def _like(heads: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
    batch, length, _, width = heads.shape
    return heads.new_empty(batch, length, num_heads, width), heads.new_empty(batch, num_heads, length)


def _shape(
    heads: Tensor, num_heads: int, first: Tensor, last: Tensor, cos: Tensor | None, sin: Tensor | None, scale: float
) -> _Shape:
    batch, length, both, width = heads.shape
    return _Shape(
        batch=batch,
        length=length,
        heads=num_heads,
        kv_heads=(both - num_heads) // 2,
        width=width,
        angles_row=length * width // 2 if cos is not None and cos.dim() == 4 else 0,
        first=first.data_ptr(),
        last=last.data_ptr(),
        cos=None if cos is None else cos.data_ptr(),
        sin=None if sin is None else sin.data_ptr(),
        scale=scale,
    )


class _Attend(torch.autograd.Function):
    """The operator with its gradient: what is saved is heads, result and the logarithms."""

    @staticmethod
    def forward(
        ctx: Saved,
        heads: Tensor,
        num_heads: int,
        first: Tensor,
        last: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            mixed, log_sum = torch.ops.headwater.attend(heads, num_heads, first, last, cos, sin, scale)
        ctx.save_for_backward(heads, mixed, log_sum, first, last, cos, sin)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(log_sum)
        ctx.scale = scale  # type: ignore[attr-defined]
        return mixed, log_sum

    @staticmethod
    def backward(ctx: Saved, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        grad = torch.ops.headwater.attend_backward(grads[0], *saved, ctx.scale)  # type: ignore[attr-defined]
        return grad, None, None, None, None, None, None


# torch.library.custom_op would say the same in fewer lines, but imports inductor: a second at the start of every rank.
_OPERATORS = torch.library.Library("headwater", "FRAGMENT")  # type: ignore[no-untyped-call]
_SHARED = "Tensor first, Tensor last, Tensor? cos, Tensor? sin, float scale"
for _signature in (
    f"attend(Tensor heads, int num_heads, {_SHARED}) -> (Tensor, Tensor)",
    f"attend_backward(Tensor grad, Tensor heads, Tensor mixed, Tensor log_sum, {_SHARED}) -> Tensor",
):
    _OPERATORS.define(_signature)  # type: ignore[no-untyped-call]
_KERNELS: tuple[tuple[str, str, Callable[..., object]], ...] = (
    ("attend", "CPU", _forward),
    ("attend", "AutogradCPU", _Attend.apply),
    ("attend", "Meta", lambda heads, num_heads, *_: _like(heads, num_heads)),
    ("attend_backward", "CPU", _backward),
    ("attend_backward", "Meta", lambda _, heads, *__: torch.empty_like(heads)),
)
for _name, _key, _kernel in _KERNELS:
    _OPERATORS.impl(_name, _kernel, _key)  # type: ignore[no-untyped-call]
