"""PPO with one of its models broken at a moment, importable by spawned processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.context import Json, Rank
from components.ppo import worker
from components.ppo.config import PpoConfig
from components.ppo.roles import Roles, make_roles
from components.ppo.worker import Inputs, train_rank


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        role: Whose forward pass: "actor", "critic", "judge" or "replica".
        what: "loss" (what it says is not a number), "gradient" (its gradient is not), "spike" (its gradient is a
            million times as large), "sleep" (it never ends) or "slow" (it takes half a second).
        passes: In which of its passes, counted from 0; of actor and critic those with a gradient count. None is all.
        rank: On which rank; -1 is all.
    """

    role: str
    what: str
    passes: tuple[int, ...] | None = None
    rank: int = -1


def train_with_faults(config: PpoConfig, inputs: Inputs, faults: tuple[Fault, ...], seed: int, rank: Rank) -> Json:
    """Rank function: PPO whose models are hooked after they were made."""

    def broken(*arguments: Any) -> Roles:
        roles = make_roles(*arguments)
        for fault in faults:
            if fault.rank in (-1, rank.rank):
                _module(roles, fault.role).register_forward_hook(_hook(fault))
        return roles

    worker.make_roles = broken  # type: ignore[attr-defined]
    try:
        return train_rank(rank, config=config, inputs=inputs, seed=seed)
    finally:
        worker.make_roles = make_roles  # type: ignore[attr-defined]


def fall_asleep() -> None:
    """Named as it is so that a test finds it in the stacks."""
    time.sleep(300)


def _module(roles: Roles, role: str) -> nn.Module:
    modules = {"actor": roles.actor.module, "critic": roles.critic.module, "judge": roles.judge.model}
    return {**modules, "replica": roles.replica}[role]


def _hook(fault: Fault) -> Callable[..., object]:
    passes = 0

    def act(module: nn.Module, arguments: object, said: Any) -> object:
        nonlocal passes
        if fault.role in ("actor", "critic") and not torch.is_grad_enabled():
            return None
        passes += 1
        if fault.passes is not None and passes - 1 not in fault.passes:
            return None
        first, *others = said if isinstance(said, tuple) else (said,)
        first = _broken(first, fault.what)
        return (first, *others) if isinstance(said, tuple) else first

    return act


def _broken(said: Tensor, what: str) -> Tensor:
    if what == "sleep":
        fall_asleep()
    if what == "slow":
        time.sleep(0.5)
    if what == "loss":
        return said * torch.nan
    if what in ("gradient", "spike"):
        factor = torch.nan if what == "gradient" else 1e6
        said.register_hook(lambda gradient: gradient * factor)  # type: ignore[no-untyped-call]
    return said


def results(folder: Path) -> dict[str, bytes]:
    """What a run left that tells its numbers."""
    return {name: (folder / name).read_bytes() for name in ("model/model.safetensors", "curve.json")}
