"""Going on from another run's checkpoint: what must be equal for the steps before it to be steps of this run too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from components.errors import StepError
from components.pretrain.config import PretrainConfig
from components.shards.schedule import Schedule


def check_origin(folder: Path, config: PretrainConfig, seeds: Mapping[str, int]) -> None:
    """Refuses a checkpoint that this run would not have come to. Known before any rank starts.

    Args:
        folder: The checkpoint.
        config: The step's settings.
        seeds: The step's seeds "rows" and "hidden".

    Raises:
        StepError: If it is damaged, past the last step, has read other rows than this run would have, or has hidden
            something else in them.
    """
    from components.training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(folder)
    steps = config.training.steps
    if checkpoint.step >= steps:
        raise StepError(
            f"The checkpoint to go on from has done {checkpoint.step} steps, and the run ends after {steps}.",
            where=f"pretrain.training.steps={steps}",
            fix=f"set pretrain.training.steps above {checkpoint.step}, or take an earlier checkpoint",
        )
    position = cast(Mapping[str, Mapping[str, object]], checkpoint.state().get("position", {}))
    ours = Schedule(seeds["rows"], config.training.batch_size, config.length, config.mixture)
    if "order" not in position or not ours.reads_alike_before(Schedule.from_json(position["order"]), checkpoint.step):
        raise StepError(
            f"The checkpoint to go on from has read other rows in {checkpoint.step} steps than this run would have.",
            where=f"{folder / 'state.json'}, position.order",
            fix="keep its seed, batch_size, length and mixture, and change weights from its step on alone: "
            f'pretrain.mixture.changes={{"{checkpoint.step}": ...}}',
        )
    hidden = {**config.hiding, "seed": seeds["hidden"]} if config.hiding else None
    if position["order"].get("hidden") != hidden:
        raise StepError(
            "The checkpoint to go on from has hidden other tokens of its rows than this run would have.",
            where=f"{folder / 'state.json'}, position.order.hidden",
            fix=f"keep its {', '.join(config.hiding)} and seed",
        )
