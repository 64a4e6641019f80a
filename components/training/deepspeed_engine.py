"""DeepSpeed ZeRO stages 0 to 3 behind the small `Engine` interface.

Decisions, each with its reason (the settings are made in `deepspeed_json`, the state is read and set in
`deepspeed_state`):

- The optimizer is an object of torch, handed over as it is, so that nothing is compiled on a CPU.
- The accumulation boundary is ours (`managed_gradient_accumulation` off): a step is however many micro-batches came
  before `step`, which PPO and uneven data need.
- DeepSpeed averages gradients over ranks; losses here are already divided by the global number of units. `backward`
  multiplies by the number of ranks (by that of copies of the model, where ranks share matrices), which the average
  takes back. (DeepSpeed's own sum mode lacks stage 3.)
- DeepSpeed skips a step whose gradient norm is not finite at stages 1 to 3 (for bf16 only when told to: it is). At
  stage 0 it neither reports a norm nor skips, so there the gradients are reduced, measured and clipped here.
- It has no place between measuring the gradient and using it. `_gate` makes one: the function that measures is
  wrapped, and a norm that is not accepted is handed on as infinite, which DeepSpeed skips.
- The loss scale of fp16 is ours, and DeepSpeed is told of it: see `precision`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.context import Rank
from components.errors import ConfigError, MachineError
from components.training.config import TrainingConfig
from components.training.deepspeed_json import compare, deepspeed_json, effective_json
from components.training.deepspeed_start import start_deepspeed
from components.training.deepspeed_state import NamedState
from components.training.deepspeed_table import Value
from components.training.engine import Accept, StepReport
from components.training.matrices import cuts_of, share_matrices
from components.training.optim import make_optimizer, set_lr
from components.training.places import Place, find_place
from components.training.plain_engine import clip_gradients, report
from components.training.precision import autocast, compute_dtype, loss_scale_of
from components.training.sequences import SharedSequences


class DeepSpeedEngine:
    """See `Engine`. Needs the process group of its ranks to be up."""

    def __init__(self, model: nn.Module, config: TrainingConfig, rank: Rank) -> None:
        self._place = find_place(config, rank)
        self.rank, self.world_size = self._place.rank, self._place.world_size
        self._num_copies = rank.world_size // config.tensor_parallel
        self.device = torch.device(rank.device)
        self._config = config
        self._stage = config.zero_stage
        self._model = model
        dtype = compute_dtype(config, self.device)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        cuts, plan = {}, None
        if config.tensor_parallel > 1:
            cuts, plan = cuts_of(model), share_matrices(model, config.tensor_parallel)
        wanted = deepspeed_json(config, rank.world_size, dtype, num_parameters, self.device.type == "cpu", plan)
        self._engine = _initialize(model, config, wanted, self.device, dtype, self._place)
        self._settings = effective_json(self._engine, wanted)
        compare(wanted, self._settings)
        if self._stage == 0:
            self._engine.enable_backward_allreduce = False  # gradients are reduced once, in `step`
        self._scale = loss_scale_of(dtype)
        self._accept: Accept | None = None
        self._norm = math.inf
        if self._stage > 0:
            self._gate()
            self._tell_scale()
        self._state = NamedState(self._engine, model, self._stage, self.device, cuts, self._place.group)

    @property
    def module(self) -> nn.Module:
        """See `Engine.module`."""
        module: nn.Module = self._engine
        return module

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        factor = self._num_copies * (self._scale.value if self._stage == 0 else 1)  # above, DeepSpeed scales
        self._engine.backward(loss * factor, scale_wrt_gas=False)

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """See `Engine.step`."""
        set_lr(self._engine.optimizer, lr)
        if self._stage == 0:
            return self._step_unsharded(accept)
        self._accept, self._norm = accept, math.inf
        self._engine.step()
        norm = self._norm if accept else float(self._engine.get_global_grad_norm())
        result = report(norm, self._engine.was_step_applied(), self._scale)
        self._tell_scale()
        return result

    def _step_unsharded(self, accept: Accept | None) -> StepReport:
        self._engine.buffered_allreduce_fallback()
        norm, fit = clip_gradients(list(self._model.parameters()), self._config.clip_grad, accept, self._scale)
        if fit:
            self._engine.step()
        else:
            self._engine.zero_grad()
        return report(norm, fit, self._scale)

    def _tell_scale(self) -> None:
        if self._scale.dynamic:
            self._engine.optimizer.override_loss_scale(self._scale.value)

    def _gate(self) -> None:
        """Wraps the method by which this optimizer measures the gradient: it remembers the norm and asks `accept`."""
        from deepspeed.runtime.bf16_optimizer import BF16_Optimizer

        optimizer = self._engine.optimizer
        if self._stage == 3:
            measure = optimizer._get_norm_groups
            optimizer._get_norm_groups = lambda: self._judged(measure())
        elif isinstance(optimizer, BF16_Optimizer):
            gradients = optimizer.get_grads_for_norm
            optimizer.get_grads_for_norm = partial(self._judged_gradients, gradients)
        else:
            whole = optimizer.scaled_global_norm
            optimizer.scaled_global_norm = lambda: self._judged([whole()])[0]

    def _judged(self, norms: list[Tensor]) -> list[Tensor]:
        """Norms of parts of the gradient (times the loss scale), or infinite ones if the step is not to be taken."""
        from deepspeed.runtime.utils import combine_grad_norm_groups

        self._norm = float(combine_grad_norm_groups(norms)) / float(getattr(self._engine.optimizer, "loss_scale", 1.0))
        if self._accept is None or not math.isfinite(self._norm) or self._accept(self._norm):
            return norms
        return [torch.full_like(norm, math.inf) for norm in norms]

    def _judged_gradients(self, gradients: Callable[..., Any], for_clipping: bool = False) -> Any:  # noqa: ANN401
        """As `_judged`, for the optimizer of bf16 at stage 1, which measures what this returns."""
        from deepspeed.runtime.utils import get_global_norm_of_tensors

        found = gradients(for_clipping)
        if for_clipping or self._accept is None:
            return found
        norm = torch.as_tensor(get_global_norm_of_tensors(found[0], mpu=self._engine.optimizer.mpu))
        fit = bool(torch.isfinite(self._judged([norm])[0]))
        return found if fit else ([torch.full_like(gradient, math.inf) for gradient in found[0]], found[1])

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """See `Engine.sum_over_ranks`."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device) * self._place.leads
        dist.all_reduce(total)
        sums: list[float] = total.tolist()
        return sums

    def full_weights(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.full_weights`."""
        return self._state.weights(keep)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Engine.load_weights`."""
        self._state.load_weights(weights)

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`."""
        return self._state.moments(keep) | (self._scale.state() if keep else {})

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        self._state.load_moments(state)
        self._scale.load(state)
        if self._stage > 0:
            self._tell_scale()

    def settings(self) -> dict[str, Value]:
        """See `Engine.settings`."""
        return self._settings

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.destroy()


def _initialize(
    model: nn.Module,
    config: TrainingConfig,
    wanted: dict[str, Value],
    device: torch.device,
    dtype: torch.dtype,
    place: Place,
) -> Any:  # noqa: ANN401  (DeepSpeed has no types)
    """Makes DeepSpeed's engine; what it prints goes to standard error."""
    deepspeed: Any = start_deepspeed(device, config.tensor_parallel)
    if config.offload == "nvme":
        _require_file_access(config)
    with redirect_stdout(sys.stderr):
        model.to(device)
        optimizer = make_optimizer(model, config)
        if config.sequence_parallel > 1 and place.group is not None:
            model = SharedSequences(model, place.group)
        if config.zero_stage == 0 and dtype == torch.float16:
            model = autocast(model, dtype)  # DeepSpeed's own autocast brings a loss scale of its own
        try:
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=wanted, dist_init_required=False)
        except ValueError as error:
            if not config.deepspeed:
                raise
            raise ConfigError(
                f"DeepSpeed refuses its settings: {' '.join(str(error).split())}.",
                where=f"training.deepspeed={config.deepspeed}",
                fix="correct or remove the entry",
            ) from error
    return engine


def _require_file_access(config: TrainingConfig) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible():
        raise MachineError(
            "DeepSpeed cannot use an NVMe disk here: it finds no libaio to build its file access with.",
            where=f"training.offload=nvme training.offload_folder={config.offload_folder}",
            fix="install libaio (libaio-dev), or set training.offload=cpu",
        )
