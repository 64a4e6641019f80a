"""Tensor parallelism: ranks of a group share every large matrix of a block, by DeepSpeed's AutoTP and a plan of ours.

In each sub-layer the first matrix is cut by rows (its outputs: heads, or channels of the feed-forward layer) and the
second by columns (1909.08053, section 3): every rank computes its heads and channels from the whole residual stream,
and one sum over the group gives what the sub-layer writes. Embeddings and norms are whole on every rank. A fused
projection is cut inside each of its matrices, so that a rank has queries, keys and values of the same heads.

AutoTP guesses such a plan for models that it knows; it is told this one, by the names of our parameters. What goes into
a checkpoint is joined again, so that a checkpoint knows no tensor parallelism either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.errors import StepError
from components.model.attention import Attention, Projection
from components.model.backbone import Backbone
from components.training.checks import check_matrices
from components.training.deepspeed_table import Value

_BY_ROWS = re.compile(r".*(attention\.qkv|ffn\.gate_up|ffn\.up)\.(weight|bias)$")
_BY_COLUMNS = re.compile(r".*(attention\.out|ffn\.down)\.weight$")


@dataclass(frozen=True)
class Cut:
    """How a parameter is cut.

    Attributes:
        dim: 0 by rows, 1 by columns.
        parts: Sizes along it of the matrices that are fused in it; each is cut by itself.
    """

    dim: int
    parts: tuple[int, ...]


def cuts_of(model: nn.Module) -> dict[str, Cut]:
    """The parameters of a model that are cut; all others are whole on every rank."""
    cuts: dict[str, Cut] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if _BY_ROWS.match(name):
                assert isinstance(module, Projection)
                cuts[name] = Cut(0, module.parts.get("weight", (parameter.shape[0],)))
            elif _BY_COLUMNS.match(name):
                cuts[name] = Cut(1, (parameter.shape[1],))
    return cuts


def share_matrices(model: nn.Module, size: int) -> dict[str, Value]:
    """Makes a model ready for AutoTP: tells its attention how many heads a rank has.

    Args:
        model: Whole; DeepSpeed cuts its matrices when it takes it over.
        size: Ranks that share.

    Returns:
        The section "tensor_parallel" of DeepSpeed's configuration.

    Raises:
        StepError: If the model cannot be cut up exactly.
    """
    _check(model, size)
    specs: list[Value] = []
    for name, cut in cuts_of(model).items():
        if name.endswith(".bias"):
            continue
        pattern: list[Value] = [re.escape(name) + "$"]
        if cut.dim == 1:
            specs.append({"patterns": pattern, "partition_type": "row"})
        else:
            shape: list[Value] = [[*cut.parts], -1]
            specs.append({"patterns": pattern, "partition_type": "column", "shape": shape, "partition_dim": 0})
    for module in model.modules():
        if isinstance(module, Attention):
            module.share_heads(size)
    return {"autotp_size": size, "partition_config": {"use_default_specs": False, "layer_specs": specs}}


def cut_out(whole: Tensor, cut: Cut | None, place: int, size: int) -> Tensor:
    """What rank `place` of `size` has of a parameter, or of anything of its shape."""
    if cut is None:
        return whole
    parts = torch.split(whole, list(cut.parts), dim=cut.dim)
    return torch.cat([part.chunk(size, dim=cut.dim)[place] for part in parts], dim=cut.dim)


def join(local: Tensor, cut: Cut | None, group: dist.ProcessGroup | None) -> Tensor:
    """The whole of what the ranks of a group have a part of each. Collective."""
    if cut is None or group is None:
        return local
    size = dist.get_world_size(group)
    pieces = [torch.empty_like(local, memory_format=torch.contiguous_format) for _ in range(size)]
    dist.all_gather(pieces, local.contiguous(), group=group)
    by_rank = [torch.split(piece, [part // size for part in cut.parts], dim=cut.dim) for piece in pieces]
    return torch.cat([piece for part in zip(*by_rank, strict=True) for piece in part], dim=cut.dim)


def _check(model: nn.Module, size: int) -> None:
    """Refuses what cannot be cut exactly."""
    stacks = [module for module in model.modules() if isinstance(module, Backbone)]
    if len(stacks) != 1:
        where = f"training.tensor_parallel={size}"
        raise StepError("Ranks can share the matrices of a model of one stack only.", where, "set it to 1")
    check_matrices(stacks[0].config, size)
