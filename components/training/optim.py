"""The optimizer: torch's fused AdamW, Muon beside it, or AdamW with moments of one byte; decay on matrices only.

DeepSpeed gets this very object too: naming AdamW in its JSON would compile a CPU kernel for more than a minute, to do
what torch's fused kernel already does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from components.errors import MachineError, StepError
from components.training.config import TrainingConfig
from components.training.muon import HybridMuon, Layout, adamw_start

_LAYER = re.compile(r"\.\d+\.")


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters: those with two or more dimensions decay, the others do not.

    Raises:
        StepError: If Muon finds no matrix that it could take.
        MachineError: If 8-bit AdamW is asked for and torchao is not installed.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "muon":
        return _muon(model, trainable, config)
    groups = _by_decay(trainable, config)
    if config.optimizer == "adamw8bit":
        return _adamw8bit(groups, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def moments_of(optimizer: torch.optim.Optimizer, muon: bool) -> tuple[str, ...]:
    """Names of what the optimizer keeps for each element of a parameter, one of Muon's or not."""
    return ("momentum_buffer",) if muon and isinstance(optimizer, HybridMuon) else ("exp_avg", "exp_avg_sq")


def start_state(optimizer: torch.optim.Optimizer, parameter: Tensor, muon: bool) -> dict[str, Tensor]:
    """Makes the state of a parameter, or of a flat partition of several, as it is before the first step."""
    if isinstance(optimizer, HybridMuon):
        return optimizer.start(parameter, muon)
    if isinstance(optimizer, torch.optim.AdamW):
        optimizer.state[parameter] = adamw_start(parameter)
        state: dict[str, Tensor] = optimizer.state[parameter]
        return state
    from components.training.lowbit import OneByteAdamW

    assert isinstance(optimizer, OneByteAdamW)
    return optimizer.start(parameter)


def saved_moment(key: str, moment: Tensor) -> dict[str, Tensor]:
    """A moment as a checkpoint holds it: fp32 on the CPU under `key`, or bytes there and their scales beside them."""
    if type(moment) in (Tensor, nn.Parameter):
        return {key: cpu_copy(moment)}
    from components.training.lowbit import saved

    return saved(key, moment)


def cpu_copy(tensor: Tensor) -> Tensor:
    """A copy that the training will not touch, on the CPU and contiguous."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def restore_moment(target: Tensor, key: str, state: Mapping[str, Tensor]) -> None:
    """Sets a moment in place from what `saved_moment` gave, of this optimizer or of one of other precision."""
    if type(target) in (Tensor, nn.Parameter) and state[key].is_floating_point():
        target.copy_(state[key])
        return
    from components.training.lowbit import restore

    restore(target, key, state)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def hidden_matrices(model: nn.Module) -> dict[nn.Parameter, Layout]:
    """The trainable matrices inside the numbered layers of a model, which are Muon's; embeddings and routers are not.

    A module whose parameter is several matrices on top of each other says so by an attribute `parts`: the numbers of
    their rows by the parameter's name, `{"weight": (64, 16, 16)}`.
    """
    return {
        parameter: Layout(tuple(parameter.shape), parts)
        for name, parameter, parts in _named_matrices(model)
        if parameter.requires_grad and _LAYER.search(name) and "router" not in name
    }


def _named_matrices(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, tuple[int, ...]]]:
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if parameter.dim() >= 2:
                parts = getattr(module, "parts", {}).get(name.rpartition(".")[2])
                yield name, parameter, parts or (parameter.shape[-2],)


def _by_decay(parameters: list[nn.Parameter], config: TrainingConfig) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _muon(model: nn.Module, trainable: list[nn.Parameter], config: TrainingConfig) -> HybridMuon:
    layouts = hidden_matrices(model)
    if not layouts:
        raise StepError(
            "This model has no matrix in a numbered layer that Muon could update.",
            where="training.optimizer=muon",
            fix="set training.optimizer=adamw",
        )
    others = [parameter for parameter in trainable if parameter not in layouts]
    groups = [{"params": list(layouts), "weight_decay": config.weight_decay, "muon": True}]
    groups += [{**group, "muon": False} for group in _by_decay(others, config)]
    return HybridMuon(
        groups,
        layouts,
        lr=config.lr,
        momentum=config.muon_momentum,
        lr_ratio=config.muon_lr_ratio,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )


def _adamw8bit(groups: list[dict[str, object]], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW of torchao (2110.02861): moments of 4096 elements or more in blocks of 256 bytes with a scale each."""
    try:
        from components.training.lowbit import OneByteAdamW
    except ImportError as error:
        raise MachineError(
            f"8-bit AdamW is not installed: {error}.",
            where="training.optimizer=adamw8bit",
            fix="pip install 'headwater[lowbit]', or set training.optimizer=adamw",
        ) from error
    optimizer: torch.optim.Optimizer = OneByteAdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps
    )
    return optimizer
