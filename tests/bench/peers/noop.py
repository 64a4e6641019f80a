"""Our side of the bench: a step that does nothing, and a recipe of it in a given shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.context import Context, Metrics
from pipelines.engine.step import Artifact, Recipe

VERSION = 1


@dataclass(frozen=True)
class NoopConfig:
    """Settings of a step that has none."""


def noop(ctx: Context, config: NoopConfig, left: Path | None = None, right: Path | None = None) -> Metrics:
    """Does nothing."""
    return {}


def recipe_of(dag: Mapping[str, Sequence[str]]) -> Recipe:
    """The recipe of a DAG of no-op steps."""
    recipe, made = Recipe("bench"), dict[str, Artifact]()
    for name, sources in dag.items():
        inputs = {side: made[source] for side, source in zip(("left", "right"), sources, strict=False)}
        made[name] = recipe.step(noop, NoopConfig(), name=name, **inputs)
    return recipe
