"""Plain torch on one rank: the oracle the other engine is tested against, and the quickest way to train on one core."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from components.context import Rank
from components.training.config import TrainingConfig
from components.training.deepspeed_table import Value
from components.training.engine import Accept, StepReport, copy_weights, named_buffers, trainable
from components.training.muon import HybridMuon
from components.training.optim import (
    cpu_copy,
    make_optimizer,
    moments_of,
    restore_moment,
    saved_moment,
    set_lr,
    start_state,
)
from components.training.precision import LossScale, autocast, compute_dtype, loss_scale_of


class PlainEngine:
    """See `Engine`. Half precision means autocast over fp32 weights."""

    def __init__(self, model: nn.Module, config: TrainingConfig, rank: Rank) -> None:
        self.rank = rank.rank
        self.world_size = rank.world_size
        self.device = torch.device(rank.device)
        dtype = compute_dtype(config, self.device)
        model.to(self.device)
        self.module: nn.Module = autocast(model, dtype)
        self._model = model
        self._clip_grad = config.clip_grad
        self._scale = loss_scale_of(dtype)
        self._optimizer = make_optimizer(model, config)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._muon = set(self._optimizer.layouts) if isinstance(self._optimizer, HybridMuon) else set()

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        (loss * self._scale.value if self._scale.dynamic else loss).backward()  # type: ignore[no-untyped-call]

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """See `Engine.step`."""
        norm, fit = clip_gradients(self._parameters, self._clip_grad, accept, self._scale)
        if fit:
            set_lr(self._optimizer, lr)
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return report(norm, fit, self._scale)

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """See `Engine.sum_over_ranks`."""
        return [float(value) for value in values]

    def full_weights(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.full_weights`; this engine has one rank."""
        tensors = {**dict(self._model.named_parameters()), **named_buffers(self._model)}
        return {name: cpu_copy(tensor) for name, tensor in tensors.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Engine.load_weights`."""
        copy_weights(weights, self._model)

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`; this engine has one rank."""
        state: dict[str, Tensor] = {"step": torch.zeros((), dtype=torch.float32), **self._scale.state()}
        for name, parameter in trainable(self._model):
            moments = self._state_of(parameter)
            for moment in moments_of(self._optimizer, parameter in self._muon):
                state |= saved_moment(f"{name}/{moment}", moments[moment])
            if "step" in moments:
                state["step"] = cpu_copy(moments["step"])
        return state

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        for name, parameter in trainable(self._model):
            moments = self._state_of(parameter)
            for moment in moments_of(self._optimizer, parameter in self._muon):
                restore_moment(moments[moment], f"{name}/{moment}", state)
            if "step" in moments:
                moments["step"].copy_(state["step"])
        self._scale.load(state)

    def settings(self) -> dict[str, Value]:
        """See `Engine.settings`: plain torch has none of its own."""
        return {}

    def close(self) -> None:
        """See `Engine.close`."""
        self._optimizer.zero_grad(set_to_none=True)

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._optimizer.state[parameter]
        return state or start_state(self._optimizer, parameter, parameter in self._muon)


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: float, accept: Accept | None = None, scale: LossScale | None = None
) -> tuple[float, bool]:
    """Scales gradients so that their global L2 norm is at most `max_norm` (0: no limit); leaves those it refuses.

    Args:
        parameters: What has the gradients.
        max_norm: The limit.
        accept: Asked with a finite norm; False refuses it.
        scale: Loss scale, taken out of the gradients here.

    Returns:
        The norm before clipping, and whether it is finite and accepted.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if scale is not None and scale.dynamic:
        torch._foreach_div_(gradients, scale.value)
    norm = torch.nn.utils.get_total_norm(gradients)
    value = float(norm)
    fit = math.isfinite(value) and (accept is None or accept(value))
    if fit and 0 < max_norm < value:
        torch._foreach_mul_(gradients, max_norm / (value + 1e-6))
    return value, fit


def report(norm: float, fit: bool, scale: LossScale) -> StepReport:
    """What a step did, with the loss scale moved accordingly: a gradient that was refused says nothing about it."""
    rescaled = False
    if fit:
        scale.stepped()
    elif not math.isfinite(norm):
        rescaled = scale.overflowed()
    return StepReport(norm, skipped=not fit, rescaled=rescaled)
