"""Weights and optimizer state of a DeepSpeed engine by parameter name, in and out, at every ZeRO stage.

What a rank holds of a parameter differs between stages 0, 1 and 2, 1 in bf16, and 3; what goes in and out here is the
whole of it, in fp32, so that a checkpoint knows no stage and no number of ranks.

This file reaches into attributes of DeepSpeed that are not documented (the flat fp32 partitions); `deepspeed` is pinned
to one exact version, and the tests train, save and load at every stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.training.engine import named_buffers, trainable
from components.training.matrices import Cut, cut_out, join
from components.training.muon import HybridMuon, Share
from components.training.optim import cpu_copy, moments_of, restore_moment, saved_moment, start_state
from components.training.partitions import Spread, collect, spread_flat, spread_split

MASTERS = ""
"""In place of a moment's name: the weights that the optimizer steps."""


class NamedState:
    """The state of one DeepSpeed engine.

    Args:
        engine: DeepSpeed's engine.
        model: The module it was made of.
        stage: ZeRO stage.
        device: Where the ranks compute.
        cuts: How the matrices are cut that ranks of a group share.
        shared_by: That group; None where each rank has all of them.
    """

    def __init__(
        self,
        engine: Any,  # noqa: ANN401  (DeepSpeed has no types)
        model: nn.Module,
        stage: int,
        device: torch.device,
        cuts: Mapping[str, Cut],
        shared_by: dist.ProcessGroup | None,
    ) -> None:
        self._engine = engine
        self._cuts, self._shared_by = cuts, shared_by
        self._model = model
        self._stage = stage
        self._device = device
        self._group: dist.ProcessGroup | None = None if stage == 0 else engine.optimizer.dp_process_group
        self._optimizer: torch.optim.Optimizer = engine.basic_optimizer
        self._muon: set[Tensor] = set()
        if isinstance(self._optimizer, HybridMuon):
            self._muon = set(self._optimizer.layouts)
            self._spread(self._optimizer)
        self._start()

    def weights(self, keep: bool) -> dict[str, Tensor]:
        """See `Engine.full_weights`."""
        weights = self._collected(MASTERS, keep) if self._has_masters else {}
        for name, parameter in self._model.named_parameters():
            if not (self._has_masters and parameter.requires_grad):
                whole = self._join(name, self._at_hand(parameter))  # of frozen ones at stage 3 by all ranks together
                weights |= {name: cpu_copy(whole.float())} if keep else {}
        return weights | {name: cpu_copy(buffer) for name, buffer in named_buffers(self._model).items() if keep}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """See `Engine.load_weights`."""
        from deepspeed.utils import safe_set_full_fp32_param

        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                value = self._cut_out(name, weights[name].to(self._device))
                with self._gathered(parameter):
                    parameter.copy_(value)
                if self._stage == 3 and parameter.requires_grad:
                    self._set_partition(parameter, value, None)
                elif self._stage > 0:
                    safe_set_full_fp32_param(parameter, value)
            for name, buffer in named_buffers(self._model).items():
                buffer.copy_(weights[name])

    def moments(self, keep: bool) -> dict[str, Tensor]:
        """See `Engine.optimizer_state`."""
        kinds = {name: self._moments_of(parameter) for name, parameter in trainable(self._model)}
        found: dict[str, Tensor] = {}
        for moment in sorted({moment for moments in kinds.values() for moment in moments}):
            found |= self._saved(moment, keep)
        if not keep:
            return {}
        steps, order = self._steps(), list(kinds)
        in_order = sorted(found, key=lambda key: (order.index(key.rpartition("/")[0]), key))
        return {
            "step": cpu_copy(steps[0]) if steps else torch.zeros(()),
            **{key: found[key] for key in in_order},
        }

    def load_moments(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_optimizer_state`."""
        for name, parameter in trainable(self._model):
            for moment in self._moments_of(parameter):
                self._set_full_moment(name, parameter, moment, state)
        for step in self._steps():
            step.copy_(state["step"])

    def _moments_of(self, parameter: nn.Parameter) -> tuple[str, ...]:
        return moments_of(self._optimizer, parameter in self._muon)

    def _partitions(self) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
        """The tensors the optimizer steps and what lies in them: flat fp32 pieces, or the parameters at stage 0."""
        optimizer = self._engine.optimizer
        if self._stage == 3:
            yield from zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True)
        elif self._stage == 0:
            yield from ((parameter, [parameter]) for _, parameter in trainable(self._model))
        elif hasattr(optimizer, "single_partition_of_fp32_groups"):
            yield from zip(optimizer.single_partition_of_fp32_groups, optimizer.round_robin_bit16_groups, strict=True)
        else:
            yield from zip(optimizer.fp32_groups_flat_partition, optimizer.bf16_groups, strict=True)

    def _start(self) -> None:
        """Creates the optimizer's state before its first step, so that it can be read and set by name at any time."""
        for partition, parameters in self._partitions():
            start_state(self._optimizer, partition, parameters[0] in self._muon)
        if self._stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _steps(self) -> list[Tensor]:
        """AdamW's counters of applied steps: equal, one per tensor it steps."""
        states = [self._optimizer.state[partition] for partition, _ in self._partitions()]
        return [state["step"] for state in states if "step" in state]

    def _spread(self, optimizer: HybridMuon) -> None:
        """Tells Muon which pieces of which matrices its flat partitions are."""
        if self._stage == 0:
            return
        for index, (partition, parameters) in enumerate(self._partitions()):
            if parameters[0] in self._muon:
                places = zip(parameters, self._spreads(index, partition, parameters), strict=True)
                shares = [Share(optimizer.layouts[parameter], spread) for parameter, spread in places]
                optimizer.spread(partition, shares, self._group, self._device)

    def _spreads(self, index: int, partition: Tensor, parameters: list[Any]) -> list[Spread]:
        """Where the parameters lie that a partition has pieces of."""
        optimizer, world_size = self._engine.optimizer, dist.get_world_size(self._group)
        sizes = [math.prod(_shape_of(parameter)) for parameter in parameters]
        if self._stage == 3:
            offsets = [optimizer.grad_position[optimizer.get_param_id(parameter)][1] for parameter in parameters]
            pieces: list[int] = [parameter.ds_tensor.numel() for parameter in parameters]
            return [spread_split(*one, world_size) for one in zip(sizes, offsets, pieces, strict=True)]
        if hasattr(optimizer, "round_robin_bit16_offsets"):
            offsets = optimizer.round_robin_bit16_offsets[index]
        else:
            offsets = [sum(sizes[:place]) for place in range(len(sizes))]
        return [spread_flat(*one, partition.numel(), world_size) for one in zip(sizes, offsets, strict=True)]

    @property
    def _has_masters(self) -> bool:
        """Whether whole weights in the highest precision there is lie in the partitions alone."""
        halves = any(parameter.dtype != torch.float32 for _, parameter in trainable(self._model))
        return self._stage == 3 or (self._stage > 0 and halves)

    def _saved(self, moment: str, keep: bool) -> dict[str, Tensor]:
        """All moments of one kind as a checkpoint holds them. Collective."""
        if self._stage > 0:
            return {f"{name}/{moment}": whole for name, whole in self._collected(moment, keep).items()}
        saved: dict[str, Tensor] = {}
        for name, parameter in trainable(self._model):
            if moment in self._moments_of(parameter):
                saved |= saved_moment(f"{name}/{moment}", self._optimizer.state[parameter][moment])
        return saved

    def _collected(self, moment: str, keep: bool) -> dict[str, Tensor]:
        """A moment of all parameters that have it, or their fp32 weights, whole and on the CPU. Collective."""
        names = {parameter: name for name, parameter in self._model.named_parameters()}
        found: dict[str, Tensor] = {}
        for index, (partition, parameters) in enumerate(self._partitions()):
            if moment != MASTERS and moment not in self._moments_of(parameters[0]):
                continue
            kept = parameters if keep or self._cuts else []  # matrices that are cut are joined on every rank
            wholes = [torch.empty(_shape_of(parameter)) for parameter in kept]
            with self._swapped_in(index):
                held = partition.detach() if moment == MASTERS else self._optimizer.state[partition][moment]
                spreads = self._spreads(index, partition, parameters)
                collect(held, spreads, [whole.view(-1) for whole in wholes], self._group, self._device)
            found |= {names[parameter]: whole for parameter, whole in zip(kept, wholes, strict=True)}
        for name in [name for name in found if name in self._cuts]:
            found[name] = self._join(name, found[name].to(self._device)).cpu()
        return found if keep else {}

    @contextmanager
    def _swapped_in(self, index: int) -> Iterator[None]:
        """Brings a partition and its moments from the disk they are offloaded to, for the time of the block."""
        optimizer = self._engine.optimizer
        away = self._stage == 3 and optimizer._swappable_optimizer_subgroup(index)
        if away:
            optimizer._optimizer_states_and_gradient_swap_in(index)
        yield
        if away:
            optimizer._release_swap_buffers(index)

    def _at_hand(self, parameter: nn.Parameter) -> Tensor:
        """A whole parameter that no partition holds, or not in a higher precision."""
        with self._gathered(parameter):
            return parameter.detach().clone() if self._stage == 3 else parameter.detach()

    def _set_full_moment(self, name: str, parameter: nn.Parameter, moment: str, state: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        key = f"{name}/{moment}"
        if self._stage == 0:
            restore_moment(self._optimizer.state[parameter][moment], key, state)
            return
        value = torch.empty(state[key].shape, device=self._device)
        restore_moment(value, key, state)
        value = self._cut_out(name, value)
        if self._stage == 3:
            self._set_partition(parameter, value, moment)
        else:
            safe_set_full_optimizer_state(parameter, value, moment)

    def _set_partition(self, parameter: Any, value: Tensor, moment: str | None) -> None:  # noqa: ANN401
        """Sets this rank's part at stage 3. DeepSpeed's own setter fails where the ranks do not divide the size."""
        rank, world_size = dist.get_rank(self._group), dist.get_world_size(self._group)
        size = parameter.ds_tensor.numel()
        padded = torch.zeros(size * world_size, dtype=value.dtype, device=value.device)
        padded[: value.numel()] = value.flatten()
        part = padded[rank * size : (rank + 1) * size]
        self._engine.optimizer.set_local_hp_param(part, parameter, moment)

    def _join(self, name: str, local: Tensor) -> Tensor:
        return join(local, self._cuts.get(name), self._shared_by)

    def _cut_out(self, name: str, whole: Tensor) -> Tensor:
        if name not in self._cuts:
            return whole
        place, size = dist.get_rank(self._shared_by), dist.get_world_size(self._shared_by)
        return cut_out(whole, self._cuts[name], place, size)

    def _gathered(self, parameter: nn.Parameter) -> Any:  # noqa: ANN401
        """A context in which the parameter is whole; what rank 0 writes there is written back at stage 3."""
        import deepspeed

        return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self._stage == 3)


def _shape_of(parameter: Any) -> tuple[int, ...]:  # noqa: ANN401  (at stage 3 DeepSpeed's, with attributes of its own)
    """The shape of a parameter, which at stage 3 is not there itself."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
