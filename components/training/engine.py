"""The small interface between the loop and what computes gradients: `Engine`, its factory, and weight helpers.

Signatures others build on:
    make_engine(model, config: TrainingConfig, rank: Rank) -> Engine
    engine.module(...)                    every forward goes through it: ZeRO-3 gathers the weights in its hooks
    engine.backward(loss)                 loss = SUM of the rank's part / GLOBAL number of units
    engine.step(lr, accept) -> StepReport clips, updates (or skips), clears the gradients
    engine.sum_over_ranks([a, b]) -> [..] collective
    engine.full_weights(keep) / load_weights(...)             fp32, CPU, by parameter name; collective
    engine.optimizer_state(keep) / load_optimizer_state(...)  fp32, CPU, by parameter name; collective
    copy_weights(weights, model)          fills a plain module (a sampler's replica, an export) by name

The one arithmetic rule: what `backward` is given adds up. The loss of a step is a sum over units (tokens, pairs)
divided by the number of units of the whole step on all ranks, so the gradient after any number of micro-batches on any
number of ranks is the gradient of that one global mean. An engine that averages over ranks undoes the average.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from components.context import Rank
from components.publish import publish_json
from components.training.blocks import prepare_blocks
from components.training.config import TrainingConfig
from components.training.deepspeed_table import Value
from components.training.privacy import refuse_private

Accept: TypeAlias = Callable[[float], bool]


@dataclass(frozen=True)
class StepReport:
    """What an optimizer step did.

    Attributes:
        grad_norm: Global L2 norm of the gradient before clipping.
        skipped: True if the gradient was not finite or not accepted: weights and moments are as before.
        rescaled: True if it was skipped because fp16 overflowed, and the loss scale was lowered for the next one: part
            of finding the scale, no fault of the training.
    """

    grad_norm: float
    skipped: bool
    rescaled: bool = False


class Engine(Protocol):
    """A model with its optimizer, possibly spread over ranks. All methods but `backward` are collective."""

    @property
    def rank(self) -> int:
        """Which part of the data this process reads: its number, or that of the group whose sequences it shares."""

    @property
    def world_size(self) -> int:
        """Into how many parts the data goes: processes, or groups of them."""

    @property
    def device(self) -> torch.device:
        """Where batches go."""

    @property
    def module(self) -> nn.Module:
        """Call this for every forward pass, on all ranks equally often; never its inner methods."""

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of `loss`, a scalar already divided by the step's global number of units."""

    def step(self, lr: float, accept: Accept | None = None) -> StepReport:
        """Clips, updates the weights at learning rate `lr`, clears the gradients; skips a non-finite gradient.

        Args:
            lr: Learning rate.
            accept: Asked once, with the gradient's finite norm, before anything is updated; False skips the step. It
                must answer the same on every rank.
        """

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Adds each value over all parts of the data, in float64; every process gets the sums.

        What the processes of a group know counts once: it is the same on each.
        """

    def full_weights(self, keep: bool = True) -> dict[str, Tensor]:
        """All parameters and buffers by name, fp32 (buffers as they are), copies on the CPU.

        Args:
            keep: False on a rank that only takes part: it exchanges a bounded part at a time, keeps none, returns {}.
        """

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Sets all parameters and buffers, from the dict that `full_weights` returns on any engine."""

    def optimizer_state(self, keep: bool = True) -> dict[str, Tensor]:
        """The optimizer's moments and what else it needs to go on, on the CPU; with fp16 the loss scale too.

        AdamW's as "<parameter>/exp_avg" and "<parameter>/exp_avg_sq", Muon's as "<parameter>/momentum_buffer", and
        "step"; of 8-bit AdamW bytes with their scales at "<parameter>/exp_avg_scale".

        Args:
            keep: See `full_weights`.
        """

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Sets what `optimizer_state` returned on any engine, ZeRO stage and number of ranks."""

    def settings(self) -> dict[str, Value]:
        """What the engine runs with, as DeepSpeed holds it after it was made: worth keeping beside the results."""

    def close(self) -> None:
        """Releases what the engine holds; it cannot be used after."""


def make_engine(model: nn.Module, config: TrainingConfig, rank: Rank) -> Engine:
    """Makes the engine that `config.engine` and `config.zero_stage` name.

    Args:
        model: In fp32 and equal on all ranks; the engine takes it over and moves it to the rank's device.
        config: The optimizer's settings, engine and ZeRO stage.
        rank: The process this is; `deepspeed` needs its process group to be up.

    Returns:
        The engine. Import of DeepSpeed (about 3 s) happens here, and only for the engine that needs it.

    Raises:
        MachineError: If the device cannot compute in `config.precision`.
        ConfigError: If training is to be private, which only pretraining can be.
    """
    refuse_private(config.privacy, "goes with pretraining alone")
    prepare_blocks(model, config)
    if config.engine == "plain":
        from components.training.plain_engine import PlainEngine

        return PlainEngine(model, config, rank)
    from components.training.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(model, config, rank)


def publish_settings(engine: Engine, folder: Path) -> None:
    """Keeps what the engine ran with beside the results, as `deepspeed.json`; plain torch has nothing to keep."""
    if engine.settings():
        publish_json(folder / "deepspeed.json", engine.settings())


def trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are learned, by name."""
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


def named_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to the weights: those a state dict keeps."""
    kept = module.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in module.named_buffers() if name in kept}


def copy_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copies weights by name into a plain module in place; tied parameters are set once and stay tied.

    Raises:
        KeyError: If a parameter of the model is not among the weights.
    """
    with torch.no_grad():
        for name, target in [*model.named_parameters(), *named_buffers(model).items()]:
            target.copy_(weights[name])
