"""Muon for the matrices inside the blocks, AdamW for all else: one optimizer object that every engine can step.

Muon (Jordan 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest orthogonal one:
all directions of the update get the same size. torch has it (`torch.optim.Muon`), for whole 2-D parameters in bf16.
Three things differ here, and a test holds the rest to torch's bits:

- A fused projection is several matrices under one name (query, key and value; gate and up; experts), and each is
  orthogonalised alone: `Layout.rows` says where they part.
- ZeRO leaves a rank flat pieces of matrices. Momentum is taken on the pieces; then each matrix travels to one rank,
  which orthogonalises it, and back: two all-to-all exchanges of what the rank holds anyway. (DeepSpeed's own Muon
  orthogonalises before it clips: its gradient norm, and with it the training, differs from plain torch.)
- The five Newton-Schulz steps run in fp32 on a CPU, where that is faster than bf16, and in bf16 on CUDA.

Updates have the size of AdamW's: 0.2 sqrt(max(rows, columns)), 2502.16982 section 2.2. One learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.adamw import adamw

from components.training.partitions import Spread

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPS = 1e-7


@dataclass(frozen=True)
class Layout:
    """How a parameter divides into matrices.

    Attributes:
        shape: Of the parameter, [..., R, C]; leading dimensions number experts.
        rows: Rows of each matrix, together R.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """A parameter that is spread over ranks: how it divides into matrices, and where its elements lie."""

    layout: Layout
    at: Spread


class HybridMuon(torch.optim.Optimizer):
    """Muon on the groups with `muon=True`, AdamW on the others.

    Args:
        groups: Parameter groups with "params", "weight_decay" and "muon".
        layouts: How each parameter of a Muon group divides into matrices.
        lr: Learning rate, of AdamW and times `lr_ratio` of Muon.
        momentum: Muon's decay rate.
        lr_ratio: Factor of the learning rate for Muon.
        betas: AdamW's decay rates.
        eps: AdamW's epsilon.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        layouts: Mapping[nn.Parameter, Layout],
        *,
        lr: float,
        momentum: float,
        lr_ratio: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "lr_ratio": lr_ratio, "betas": betas, "eps": eps})
        self.layouts: dict[Tensor, Layout] = dict(layouts.items())
        self._shares: dict[Tensor, tuple[list[Share], dist.ProcessGroup | None, torch.device]] = {}

    def spread(
        self, partition: Tensor, shares: Sequence[Share], group: dist.ProcessGroup | None, device: torch.device
    ) -> None:
        """Tells what a flat partition of ZeRO consists of.

        Args:
            partition: What this rank steps.
            shares: The parameters in it.
            group: The ranks that hold the other pieces.
            device: Where they exchange them; an offloaded partition lies elsewhere.
        """
        self._shares[partition] = (list(shares), group, device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["muon"]:
                known = [one for one in parameters if one in self._shares or one in self.layouts]
                for parameter in known:  # DeepSpeed makes a first step of its own, with no gradient, while it starts
                    self._step_muon(parameter, group)
            elif parameters:
                self._step_adamw(parameters, group)

    def start(self, parameter: Tensor, muon: bool) -> dict[str, Tensor]:
        """Makes the state of a parameter, or of a flat partition, as it is before the first step."""
        start = {"momentum_buffer": torch.zeros_like(parameter)} if muon else adamw_start(parameter)
        self.state[parameter] = start
        state: dict[str, Tensor] = self.state[parameter]
        return state

    def _step_muon(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, momentum = parameter.grad, group["momentum"]
        assert gradient is not None
        buffer = (self.state[parameter] or self.start(parameter, muon=True))["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        update = gradient.lerp(buffer, momentum)
        if parameter in self._shares:
            shares, ranks, device = self._shares[parameter]
            moved = update.to(device)
            _exchange(moved, shares, ranks)
            update = moved.to(parameter.device)
        else:
            update = orthogonal(update, self.layouts[parameter])
        lr = group["lr"]
        parameter.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * group["lr_ratio"])

    def _step_adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] or self.start(parameter, muon=False) for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def adamw_start(parameter: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a tensor before its first step, as the fused kernel wants it."""
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def orthogonal(update: Tensor, layout: Layout) -> Tensor:
    """Each matrix of a parameter orthogonalised and scaled to the size of an AdamW update; same shape."""
    columns = layout.shape[-1]
    parts = torch.split(update.view(-1, *layout.shape[-2:]), list(layout.rows), dim=1)
    dtype = torch.bfloat16 if update.is_cuda else torch.float32
    scaled = [newton_schulz(part, dtype).mul_(0.2 * math.sqrt(max(part.shape[1], columns))) for part in parts]
    return torch.cat(scaled, dim=1).to(update.dtype).view_as(update)


def newton_schulz(matrices_NRC: Tensor, dtype: torch.dtype) -> Tensor:
    """Brings the singular values of each matrix near 1 (0.7 to 1.2), by five steps of an odd quintic polynomial.

    Args:
        matrices_NRC: Matrices of one shape.
        dtype: What it computes in, and returns.

    Returns:
        As many matrices with the same singular vectors; a new tensor.
    """
    a, b, c = COEFFICIENTS
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    whole = matrices_NRC.to(dtype, copy=True)
    x = whole.mT if tall else whole
    x.div_(x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS))
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _exchange(update: Tensor, shares: list[Share], group: dist.ProcessGroup | None) -> None:
    """Orthogonalises the matrices whose pieces lie in the flat `update` of each rank, in place. Collective."""
    rank, world_size = dist.get_rank(group), dist.get_world_size(group)
    owned = owners(shares, world_size)
    mine = [shares[index] for index in owned[rank]]
    pieces = [[_piece(update, shares[index], rank) for index in indices] for indices in owned]
    sent = [sum(piece.numel() for piece in to_one) for to_one in pieces]
    received = [sum(share.at.sizes[source] for share in mine) for source in range(world_size)]

    arrived = update.new_empty(sum(received))
    dist.all_to_all_single(
        arrived, torch.cat([torch.cat([*to_one, update[:0]]) for to_one in pieces]), received, sent, group
    )
    cursors = [sum(received[:source]) for source in range(world_size)]
    slots: list[list[Tensor]] = []
    for share in mine:
        slots.append(
            [arrived[cursors[source] : cursors[source] + share.at.sizes[source]] for source in range(world_size)]
        )
        cursors = [cursor + size for cursor, size in zip(cursors, share.at.sizes, strict=True)]
    for share, parts in zip(mine, slots, strict=True):
        order = sorted(range(world_size), key=lambda source: share.at.starts[source])
        whole = torch.cat([parts[source] for source in order]).view(share.layout.shape)
        flat = orthogonal(whole, share.layout).flatten()
        for source, part in enumerate(parts):
            part.copy_(flat[share.at.starts[source] : share.at.starts[source] + share.at.sizes[source]])

    returned = update.new_empty(sum(sent))
    dist.all_to_all_single(returned, arrived, sent, received, group)
    update.zero_()  # the padding of a partition moves nothing
    flat_pieces = [piece for to_one in pieces for piece in to_one]
    for piece, values in zip(flat_pieces, torch.split(returned, [piece.numel() for piece in flat_pieces]), strict=True):
        piece.copy_(values)


def owners(shares: Sequence[Share], world_size: int) -> list[list[int]]:
    """Which rank orthogonalises which parameter: the dearest first, each to the rank with the least to do so far."""

    def cost(share: Share) -> int:
        return math.prod(share.layout.shape) * min(max(share.layout.rows), share.layout.shape[-1])

    load = [0] * world_size
    owned: list[list[int]] = [[] for _ in range(world_size)]
    for index in sorted(range(len(shares)), key=lambda index: (-cost(shares[index]), index)):
        rank = min(range(world_size), key=lambda rank: (load[rank], rank))
        owned[rank].append(index)
        load[rank] += cost(shares[index])
    return owned


def _piece(update: Tensor, share: Share, rank: int) -> Tensor:
    offset = share.at.offsets[rank]
    return update[offset : offset + share.at.sizes[rank]]
