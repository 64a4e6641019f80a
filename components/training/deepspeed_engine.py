"""DeepSpeed ZeRO stages 0 to 3 behind the small `Engine` interface.

The JSON that DeepSpeed wants is generated here out of `TrainingConfig`, and what DeepSpeed made of it is read back and
compared: a setting it ignores is an error, not a surprise. Decisions, each with its reason:

- The optimizer is torch's fused AdamW, handed over as an object, so that nothing is compiled on a CPU.
- The accumulation boundary is ours (`managed_gradient_accumulation` off): a step is however many micro-batches came
  before `step`, which PPO and uneven data need.
- DeepSpeed averages gradients over ranks; losses here are already divided by the global number of units. `backward`
  multiplies by the number of ranks, which the average takes back. (DeepSpeed's own sum mode lacks stage 3.)
- DeepSpeed skips a step whose gradient norm is not finite at stages 1 to 3 (for bf16 only when told to: it is). At
  stage 0 it neither reports a norm nor skips, so there the gradients are reduced, measured and clipped here.
- It has no place between measuring the gradient and using it. `_gate` makes one: the function that measures is
  wrapped, and a norm that is not accepted is handed on as infinite, which DeepSpeed skips.
- Weights and optimizer state go in and out by parameter name, fp32, so a checkpoint knows no stage and no rank count.

This file reaches into attributes of DeepSpeed that are not documented (the flat fp32 partitions); `deepspeed` is pinned
to one exact version, and the tests train, save and load at every stage.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.context import Rank
from components.training.config import TrainingConfig
from components.training.deepspeed_start import start_deepspeed
from components.training.engine import Accept, StepReport, named_buffers, use_bf16
from components.training.optim import make_optimizer, set_lr
from components.training.plain_engine import MOMENTS, clip_gradients

BUCKET_ELEMENTS = 100_000_000


def deepspeed_json(config: TrainingConfig, world_size: int, bf16: bool, num_parameters: int) -> dict[str, Any]:
    """The DeepSpeed configuration of a training config.

    Args:
        config: Stage, clipping and micro-batch.
        world_size: Number of ranks.
        bf16: Compute in bf16. At stage 0 by autocast over fp32 weights; above, bf16 weights with fp32 masters.
        num_parameters: Bounds the communication buckets: DeepSpeed allocates them whole.

    Returns:
        A dict to pass as `config` to `deepspeed.initialize`.
    """
    bucket = 2 * max(1, min(BUCKET_ELEMENTS, num_parameters) // 2)
    sharded = config.zero_stage > 0
    result: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.micro_batch,
        "gradient_accumulation_steps": 1,
        "train_batch_size": config.micro_batch * world_size,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.clip_grad if sharded else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "zero_optimization": {
            "stage": config.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "overlap_comm": False,
        },
    }
    if bf16 and sharded:
        result["bf16"] = {"enabled": True, "check_grad_overflow": True}
        result["data_types"] = {"grad_accum_dtype": "fp32"}
    elif bf16:
        result["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return result


def effective_json(engine: Any) -> dict[str, Any]:  # noqa: ANN401  (DeepSpeed has no types)
    """The same settings as the engine holds them after it was made."""
    result: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": engine.train_micro_batch_size_per_gpu(),
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "train_batch_size": engine.train_batch_size(),
        "managed_gradient_accumulation": engine.managed_gradient_accumulation(),
        "gradient_clipping": engine.gradient_clipping(),
        "zero_allow_untested_optimizer": engine.zero_allow_untested_optimizer(),
        "zero_force_ds_cpu_optimizer": engine.zero_force_ds_cpu_optimizer(),
        "steps_per_print": engine.steps_per_print(),
        "zero_optimization": {
            "stage": int(engine.zero_optimization_stage()),
            "reduce_bucket_size": engine.zero_reduce_bucket_size(),
            "allgather_bucket_size": engine.zero_allgather_bucket_size(),
            "overlap_comm": engine.zero_overlap_comm(),
        },
    }
    if engine.bfloat16_enabled():
        overflow = engine._config.bfloat16_config.check_grad_overflow
        result["bf16"] = {"enabled": True, "check_grad_overflow": overflow}
        result["data_types"] = {"grad_accum_dtype": engine._config.grad_accum_dtype}
    if engine.torch_autocast_enabled():
        dtype = str(engine.torch_autocast_dtype()).removeprefix("torch.")
        result["torch_autocast"] = {"enabled": True, "dtype": dtype}
    return result


class DeepSpeedEngine:
    """See `Engine`. Needs the process group of its ranks to be up."""

    def __init__(self, model: nn.Module, config: TrainingConfig, rank: Rank) -> None:
        self.rank = rank.rank
        self.world_size = rank.world_size
        self.device = torch.device(rank.device)
        self._config = config
        self._stage = config.zero_stage
        self._model = model
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        wanted = deepspeed_json(config, rank.world_size, use_bf16(config, self.device), num_parameters)
        self._engine = _initialize(model, config, wanted, self.device)
        _compare(wanted, effective_json(self._engine))
        if self._stage == 0:
            self._engine.enable_backward_allreduce = False  # gradients are reduced once, in `step`
        self._accept: Accept | None = None
        self._norm = math.inf
        if self._stage > 0:
            self._gate()
        self._make_moments()

    @property
    def module(self) -> nn.Module:
        """See `Engine.module`."""
        module: nn.Module = self._engine
        return module

    def backward(self, loss: Tensor) -> None:
        """See `Engine.backward`."""
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """See `Engine.step`."""
        set_lr(self._engine.optimizer, lr)
        if self._stage == 0:
            return self._step_unsharded(accept)
        self._accept, self._norm = accept, math.inf
        self._engine.step()
        norm = self._norm if accept else float(self._engine.get_global_grad_norm())
        return StepReport(norm, skipped=not self._engine.was_step_applied())

    def _step_unsharded(self, accept: Accept | None) -> StepReport:
        self._engine.buffered_allreduce_fallback()
        norm, fit = clip_gradients(list(self._model.parameters()), self._config.clip_grad, accept)
        if fit:
            self._engine.step()
        else:
            self._engine.zero_grad()
        return StepReport(norm, skipped=not fit)

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
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        sums: list[float] = total.tolist()
        return sums

    def full_weights(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.full_weights`."""
        weights = {}
        for name, parameter in self._model.named_parameters():
            whole = self._full(parameter)  # at stage 3 and for bf16 by all ranks together
            if keep:
                weights[name] = _copy(whole.float())
        return weights | {name: _copy(buffer) for name, buffer in named_buffers(self._model).items() if keep}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Engine.load_weights`."""
        from deepspeed.utils import safe_set_full_fp32_param

        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                value = weights[name].to(self.device)
                with self._gathered(parameter):
                    parameter.copy_(value)
                if self._stage == 3 and parameter.requires_grad:
                    self._set_partition(parameter, value, None)
                elif self._stage > 0:
                    safe_set_full_fp32_param(parameter, value)
            for name, buffer in named_buffers(self._model).items():
                buffer.copy_(weights[name])

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`."""
        state = {"step": _copy(self._steps()[0])} if keep else {}
        for name, parameter in self._trainable():
            for moment in MOMENTS:
                whole = self._full_moment(parameter, moment)
                if keep:
                    state[f"{name}/{moment}"] = _copy(whole)
        return state

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        for name, parameter in self._trainable():
            for moment in MOMENTS:
                self._set_full_moment(parameter, moment, state[f"{name}/{moment}"].to(self.device))
        for step in self._steps():
            step.copy_(state["step"])

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.destroy()

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, parameter) for name, parameter in self._model.named_parameters() if parameter.requires_grad]

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        """The AdamW object itself, beneath ZeRO's wrapper."""
        optimizer: torch.optim.Optimizer = self._engine.basic_optimizer
        return optimizer

    def _partitions(self) -> list[Tensor]:
        """The tensors AdamW steps: this rank's flat fp32 partitions, or the parameters themselves at stage 0."""
        optimizer = self._engine.optimizer
        if self._stage == 3:
            return list(optimizer.fp32_partitioned_groups_flat)
        if self._stage == 0:
            return [parameter for _, parameter in self._trainable()]
        if hasattr(optimizer, "single_partition_of_fp32_groups"):
            return list(optimizer.single_partition_of_fp32_groups)
        return list(optimizer.fp32_groups_flat_partition)

    def _make_moments(self) -> None:
        """Creates AdamW's state before its first step, so that it can be read and set by name at any time."""
        optimizer = self._torch_optimizer()
        for partition in self._partitions():
            optimizer.state[partition] = {
                "step": torch.zeros((), dtype=torch.float32, device=partition.device),
                **{moment: torch.zeros_like(partition) for moment in MOMENTS},
            }
        if self._stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _steps(self) -> list[Tensor]:
        """AdamW's counters of applied steps: equal, one per tensor it steps."""
        states = self._torch_optimizer().state
        return [states[partition]["step"] for partition in self._partitions()]

    def _full(self, parameter: nn.Parameter) -> Tensor:
        """A whole parameter in the highest precision there is."""
        from deepspeed.utils import safe_get_full_fp32_param

        if self._stage == 0 or (self._stage < 3 and parameter.dtype == torch.float32):
            return parameter.detach()
        if parameter.requires_grad:
            whole: Tensor = safe_get_full_fp32_param(parameter)
            return whole
        with self._gathered(parameter):
            return parameter.detach().clone()

    def _full_moment(self, parameter: nn.Parameter, moment: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        if self._stage == 0:
            value: Tensor = self._torch_optimizer().state[parameter][moment]
        else:
            value = safe_get_full_optimizer_state(parameter, moment)
        return value

    def _set_full_moment(self, parameter: nn.Parameter, moment: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        if self._stage == 0:
            self._torch_optimizer().state[parameter][moment].copy_(value)
        elif self._stage == 3:
            self._set_partition(parameter, value, moment)
        else:
            safe_set_full_optimizer_state(parameter, value, moment)

    def _set_partition(self, parameter: Any, value: Tensor, moment: str | None) -> None:  # noqa: ANN401
        """Sets this rank's part at stage 3. DeepSpeed's own setter fails where the ranks do not divide the size."""
        size = parameter.ds_tensor.numel()
        padded = torch.zeros(size * self.world_size, dtype=value.dtype, device=value.device)
        padded[: value.numel()] = value.flatten()
        part = padded[self.rank * size : (self.rank + 1) * size]
        self._engine.optimizer.set_local_hp_param(part, parameter, moment)

    def _gathered(self, parameter: nn.Parameter) -> Any:  # noqa: ANN401
        """A context in which the parameter is whole; what rank 0 writes there is written back at stage 3."""
        import deepspeed

        return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self._stage == 3)


def _initialize(model: nn.Module, config: TrainingConfig, wanted: dict[str, Any], device: torch.device) -> Any:  # noqa: ANN401
    """Makes DeepSpeed's engine; what it prints goes to standard error."""
    deepspeed: Any = start_deepspeed(device)
    with redirect_stdout(sys.stderr):
        model.to(device)
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=make_optimizer(model, config), config=wanted, dist_init_required=False
        )
    return engine


def _compare(wanted: Mapping[str, Any], effective: Mapping[str, Any]) -> None:
    """Raises if DeepSpeed holds another value than the one it was given."""
    names: Iterable[str] = sorted(set(wanted) | set(effective))
    different = [
        f"{name}: {wanted.get(name)} became {effective.get(name)}"
        for name in names
        if wanted.get(name) != effective.get(name)
    ]
    if different:
        raise RuntimeError(f"DeepSpeed changed its configuration: {'; '.join(different)}")


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
