"""Weights and optimizer state of a DeepSpeed engine by parameter name, in and out, at every ZeRO stage.

What a rank holds of a parameter differs between stages 0, 1 and 2, 1 in bf16, and 3; what goes in and out here is the
whole of it, in fp32, so that a checkpoint knows no stage and no number of ranks.

This file reaches into attributes of DeepSpeed that are not documented (the flat fp32 partitions); `deepspeed` is pinned
to one exact version, and the tests train, save and load at every stage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.training.engine import named_buffers, trainable
from components.training.matrices import Cut, cut_out, join
from components.training.muon import HybridMuon, Layout, Share
from components.training.optim import cpu_copy, moments_of, restore_moment, saved_moment, start_state


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
        weights = {}
        for name, parameter in self._model.named_parameters():
            whole = self._join(name, self._full(parameter))  # at stage 3 and for bf16 by all ranks together
            if keep:
                weights[name] = cpu_copy(whole.float())
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
        steps = self._steps()
        state = {"step": cpu_copy(steps[0]) if steps else torch.zeros(())} if keep else {}
        for name, parameter in trainable(self._model):
            for moment in self._moments_of(parameter):
                whole = self._join(name, self._full_moment(parameter, moment))
                if keep:
                    state |= saved_moment(f"{name}/{moment}", whole)
        return state

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
            if parameters[0] not in self._muon:
                continue
            layouts = [optimizer.layouts[parameter] for parameter in parameters]
            if self._stage == 3:
                positions = self._engine.optimizer.grad_position
                ids = [self._engine.optimizer.get_param_id(parameter) for parameter in parameters]
                shares = [
                    self._split_share(layout, parameter, positions[one][1])
                    for layout, parameter, one in zip(layouts, parameters, ids, strict=True)
                ]
            else:
                shares = self._flat_shares(layouts, self._offsets(index, layouts), partition.numel())
            optimizer.spread(partition, shares, self._group, self._device)

    def _offsets(self, index: int, layouts: list[Layout]) -> list[int]:
        """Where each parameter begins in the whole flat group at stages 1 and 2."""
        optimizer = self._engine.optimizer
        if hasattr(optimizer, "round_robin_bit16_offsets"):
            offsets: list[int] = optimizer.round_robin_bit16_offsets[index]
            return offsets
        sizes = [math.prod(layout.shape) for layout in layouts]
        return [sum(sizes[:place]) for place in range(len(sizes))]

    def _flat_shares(self, layouts: list[Layout], offsets: list[int], partition_size: int) -> list[Share]:
        """Stages 1 and 2: a group is one flat tensor cut into equal partitions."""
        rank, world_size = dist.get_rank(self._group), dist.get_world_size(self._group)
        shares = []
        for layout, offset in zip(layouts, offsets, strict=True):
            size = math.prod(layout.shape)
            edges = [min(max(place * partition_size - offset, 0), size) for place in range(world_size + 1)]
            sizes = tuple(end - start for start, end in itertools.pairwise(edges))
            shares.append(Share(layout, max(offset - rank * partition_size, 0), tuple(edges[:-1]), sizes))
        return shares

    def _split_share(self, layout: Layout, parameter: Any, offset: int) -> Share:  # noqa: ANN401
        """Stage 3: every parameter is cut into equal pieces of its own."""
        size, piece = math.prod(layout.shape), parameter.ds_tensor.numel()
        starts = tuple(min(rank * piece, size) for rank in range(dist.get_world_size(self._group)))
        return Share(layout, offset, starts, tuple(min(piece, size - start) for start in starts))

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
            value: Tensor = self._optimizer.state[parameter][moment]
        else:
            value = safe_get_full_optimizer_state(parameter, moment)
        return value

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
