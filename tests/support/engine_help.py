"""Shorthand for tests that plan and run recipes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from components.publish import publish_json
from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.driver import execute
from pipelines.engine.events import RunStatus
from pipelines.engine.plan import Plan, make_plan
from pipelines.engine.select import EVERYTHING, Selection
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store

_numbers = itertools.count(1)


def plan_of(recipe: Recipe, store: Store, selection: Selection = EVERYTHING) -> Plan:
    return make_plan(recipe.steps, store, selection)


def run_recipe(
    recipe: Recipe,
    store: Store,
    kind: str = "inprocess",
    *,
    stop: threading.Event | None = None,
    run_folder: Path | None = None,
    grace_s: float = 30.0,
    max_retries: int = 2,
    selection: Selection = EVERYTHING,
    **limits: float | str,
) -> RunStatus:
    """Plans and executes a recipe as a new run of the store; `limits` are further fields of the cluster's config."""
    plan = plan_of(recipe, store, selection)
    folder = run_folder or store.run_folder(f"test-{next(_numbers)}")
    publish_json(folder / "plan.json", plan.to_json())
    cluster = ClusterConfig(kind=kind, grace_s=grace_s, max_retries=max_retries, **limits)  # type: ignore[arg-type]
    return execute(plan, store, folder, cluster, stop or threading.Event())


def states(status: RunStatus) -> dict[str, str]:
    return {name: step.state for name, step in status.steps.items()}
