"""Plain torch on one rank: the oracle the other engine is tested against, and the quickest way to train on one core."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from components.context import Rank
from components.training.config import TrainingConfig
from components.training.engine import Accept, StepReport, copy_weights, named_buffers, use_bf16
from components.training.optim import make_optimizer, set_lr

MOMENTS = ("exp_avg", "exp_avg_sq")


class PlainEngine:
    """See `Engine`. bf16 means autocast over fp32 weights."""

    def __init__(self, model: nn.Module, config: TrainingConfig, rank: Rank) -> None:
        self.rank = rank.rank
        self.world_size = rank.world_size
        self.device = torch.device(rank.device)
        model.to(self.device)
        self.module: nn.Module = _Autocast(model) if use_bf16(config, self.device) else model
        self._model = model
        self._clip_grad = config.clip_grad
        self._optimizer = make_optimizer(model, config)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """See `Engine.step`."""
        norm, fit = clip_gradients(self._parameters, self._clip_grad, accept)
        if fit:
            set_lr(self._optimizer, lr)
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return StepReport(norm, skipped=not fit)

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """See `Engine.sum_over_ranks`."""
        return [float(value) for value in values]

    def full_weights(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.full_weights`; this engine has one rank."""
        tensors = {**dict(self._model.named_parameters()), **named_buffers(self._model)}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Engine.load_weights`."""
        copy_weights(weights, self._model)

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`; this engine has one rank."""
        state: dict[str, Tensor] = {"step": torch.zeros((), dtype=torch.float32)}
        for name, parameter in self._trainable():
            moments = self._optimizer.state[parameter]
            for moment in MOMENTS:
                value = moments.get(moment, torch.zeros_like(parameter))
                state[f"{name}/{moment}"] = value.detach().to("cpu", copy=True)
            state["step"] = moments["step"].detach().to("cpu", copy=True) if moments else state["step"]
        return state

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        for name, parameter in self._trainable():
            self._optimizer.state[parameter] = {
                "step": state["step"].to(self.device, copy=True),
                **{moment: state[f"{name}/{moment}"].to(self.device, copy=True) for moment in MOMENTS},
            }

    def close(self) -> None:
        """See `Engine.close`."""
        self._optimizer.zero_grad(set_to_none=True)

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in self._model.named_parameters() if parameter.requires_grad]


class _Autocast(nn.Module):
    """Runs a module's forward in bf16 where that is safe; its weights stay fp32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        device = next(self.inner.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            return self.inner(*args, **kwargs)


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float, accept: Accept | None = None
) -> tuple[float, bool]:
    """Scales gradients so that their global L2 norm is at most `max_norm` (0: no limit); leaves those it refuses.

    Returns:
        The norm before clipping, and whether it is finite and accepted.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    value = float(norm)
    fit = math.isfinite(value) and (accept is None or accept(value))
    if fit and 0 < max_norm < value:
        torch._foreach_mul_(gradients, max_norm / (value + 1e-6))
    return value, fit
