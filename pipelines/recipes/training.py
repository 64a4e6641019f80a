"""How every step that trains a model is declared: its processes are those of its own `training`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from components.training.config import TrainingConfig
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe, StepFunction

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Trains(DataclassInstance, Protocol):
        """The config of a step that trains."""

        @property
        def training(self) -> TrainingConfig:
            """Steps, batch, engine, ranks."""


def train_step(
    run: Recipe,
    settings: Settings,
    fn: StepFunction,
    config: Trains,
    *,
    name: str | None = None,
    **inputs: Artifact | None,
) -> Artifact:
    """Adds a step that trains; it outlives the driver, and a change of its code alone does not train again.

    Args:
        run: The recipe.
        settings: All settings: the cluster's tell what a rank is given.
        fn: The step function.
        config: Its config.
        name: See `Recipe.step`.
        **inputs: See `Recipe.step`.
    """
    return run.step(
        fn,
        config,
        name=name,
        code="warn",
        detached=True,
        ranks=config.training.ranks,
        min_ranks=config.training.min_ranks,
        gpus=settings.cluster.rank_gpus,
        **inputs,  # type: ignore[arg-type]  # none of these names is an argument of `step`
    )
