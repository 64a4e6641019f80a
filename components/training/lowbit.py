"""AdamW with moments of one byte each, from torchao (2110.02861), and how its state goes into a checkpoint.

Moments of 4096 elements and more lie in blocks of 256: a byte each for a place in a table, and a scale for the block. A
checkpoint holds bytes and scales as they are, because rounding a value again does not always give the same byte, and
resuming must. Read into another optimizer they become numbers; numbers read into this one become bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchao.optim import AdamW8bit
from torchao.optim.subclass_8bit import OptimState8bit

from components.training.optim import cpu_copy

SCALE = "_scale"


class OneByteAdamW(AdamW8bit):  # type: ignore[misc]
    """torchao's optimizer; on a CPU without its compiled kernel, for which there would have to be a compiler."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Updates every parameter that has a gradient."""
        on_cpu = all(not parameter.is_cuda for group in self.param_groups for parameter in group["params"])
        with torch.compiler.set_stance("force_eager" if on_cpu else "default"):
            super().step(closure)

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """Makes the state of a parameter as it is before the first step."""
        self.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": self._new_buffer(parameter, True),
            "exp_avg_sq": self._new_buffer(parameter, False),
        }
        state: dict[str, Tensor] = self.state[parameter]
        return state


def saved(key: str, moment: OptimState8bit) -> dict[str, Tensor]:
    """A moment of bytes as a checkpoint holds it: under `key`, and its scales beside it."""
    return {key: cpu_copy(moment.codes), key + SCALE: cpu_copy(moment.scale)}


def restore(target: Tensor, key: str, state: Mapping[str, Tensor]) -> None:
    """Sets a moment from what any optimizer saved."""
    value = state[key].to(target.device)
    scale = state.get(key + SCALE)
    if isinstance(target, OptimState8bit) and scale is not None:
        target.codes.copy_(value)
        target.scale.copy_(scale)
    else:
        target.copy_(value if scale is None else _numbers(value, scale, signed=not key.endswith("_sq")))


def _numbers(codes: Tensor, scale: Tensor, signed: bool) -> Tensor:
    empty = OptimState8bit.zeros(codes.shape, signed, codes.numel() // scale.numel(), codes.device)
    empty.codes.copy_(codes)
    empty.scale.copy_(scale)
    numbers: Tensor = empty.dequantize()
    return numbers
