"""What forward and backward are computed in: fp32, bf16 or fp16, and the loss scale that fp16 needs.

Weights and moments stay fp32 in every case (DeepSpeed keeps half-precision copies beside them at stages 1 to 3). fp16
reaches down to 6e-8 only, so small gradients would vanish: the loss is multiplied by a scale, the gradients are divided
by it, and the scale is as large as it can be without overflow. It is found as in torch's GradScaler (1710.03740,
section 3.2): halved after a step whose gradient is not finite, which is skipped, and doubled after `GROWTH_STEPS` good
ones. It lives here, for all engines, because it belongs into the checkpoint, and because DeepSpeed would not tell a
step that the guard refused from one that overflowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.errors import MachineError
from components.training.checks import check_precision
from components.training.config import TrainingConfig

FIRST_SCALE = 2.0**16
SMALLEST_SCALE = 1.0
GROWTH_STEPS = 2000
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """What forward and backward run in on a device.

    Raises:
        MachineError: If the device cannot compute in what is asked for.
    """
    name = config.precision
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise MachineError(
            f"{torch.cuda.get_device_name(device)} does not compute in bf16.",
            where=f"training.precision={config.precision}",
            fix="set training.precision=fp16, or fp32",
        )
    check_precision(config, device.type)
    return _DTYPES[name]


class Autocast(nn.Module):
    """Runs a module's forward in half precision where that is safe; its weights stay fp32."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self._dtype = dtype

    def forward(self, *args: object, **kwargs: object) -> object:
        """The inner module's result."""
        device = next(self.inner.parameters()).device.type
        with torch.autocast(device, dtype=self._dtype):
            return self.inner(*args, **kwargs)


def autocast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its forward in `dtype`; itself for fp32."""
    return model if dtype == torch.float32 else Autocast(model, dtype)


@dataclass
class LossScale:
    """The dynamic loss scale of fp16.

    Attributes:
        value: What the loss is multiplied by; 1 and constant where the scale is not needed.
        good_steps: Steps taken since the scale last changed.
        dynamic: Whether it changes.
    """

    value: float = 1.0
    good_steps: int = 0
    dynamic: bool = False

    def overflowed(self) -> bool:
        """Lowers the scale after a gradient that was not finite; False if it is as low as it gets."""
        if not self.dynamic or self.value <= SMALLEST_SCALE:
            return False
        self.value, self.good_steps = self.value / 2, 0
        return True

    def stepped(self) -> None:
        """Counts a step that was taken, and raises the scale when it is time."""
        self.good_steps += self.dynamic
        if self.good_steps >= GROWTH_STEPS:
            self.value, self.good_steps = self.value * 2, 0

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it: nothing where it is constant."""
        return {"loss_scale": torch.tensor([self.value, self.good_steps])} if self.dynamic else {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continues from what `state` gave, where that is there: another precision saved none."""
        if self.dynamic and "loss_scale" in state:
            value, good_steps = state["loss_scale"].tolist()
            self.value, self.good_steps = value, int(good_steps)


def loss_scale_of(dtype: torch.dtype) -> LossScale:
    """The scale with which training in a dtype begins."""
    return LossScale(FIRST_SCALE, dynamic=True) if dtype == torch.float16 else LossScale()
