"""What is done to the blocks of a model before an engine takes it: recompute their inside, compile them.

Block by block and not the model as a whole: a compiled block is compiled once for all layers, 5 s and not 31 s at the
size of the benchmark for the same speed, and what lies between blocks stays visible to ZeRO-3's hooks.
"""

from __future__ import annotations

from torch import nn

from components.errors import StepError
from components.training.config import TrainingConfig


def prepare_blocks(model: nn.Module, config: TrainingConfig) -> None:
    """Applies `config.recompute` and `config.compile` to the blocks of a model, in place; names stay.

    Raises:
        StepError: If the model has no blocks to which that could be done.
    """
    if config.recompute == "blocks":
        stacks = [module for module in model.modules() if hasattr(module, "checkpointed")]
        _require(bool(stacks), "training.recompute=blocks", "training.recompute=none")
        for stack in stacks:
            setattr(stack, "checkpointed", True)  # noqa: B010  (a name that nn.Module does not know)
    if config.compile:
        blocks = [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]
        _require(bool(blocks), "training.compile=true", "training.compile=false")
        for block in blocks:
            block.compile()


def _require(found: bool, where: str, fix: str) -> None:
    if not found:
        raise StepError("This model has no blocks of layers.", where=where, fix=f"set {fix}")
