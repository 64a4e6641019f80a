"""From settings to a plan: what every verb that looks at the DAG starts with, and how a plan is shown."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.config import Settings
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.plan import Plan, PlanEntry, make_plan
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store


def plan_of(settings: Settings) -> tuple[Store, Plan]:
    """Builds the recipe that the settings name and plans it against their store."""
    from pipelines.recipes.chat import chat

    recipe = Recipe(settings.recipe)
    chat(recipe, settings)
    store = Store(Path(settings.store))
    return store, make_plan(recipe.steps, store)


def plan_lines(plan: Plan, settings: Settings) -> list[str]:
    """The plan as a person reads it, one line a step and a closing one."""
    head = (
        f"recipe {settings.recipe}, preset {settings.preset}, store {settings.store}, cluster {settings.cluster.kind}"
    )
    return [head, *(f"  {_row(entry)}" for entry in plan.entries), _closing(plan)]


def shortest(path: str) -> str:
    """A path as a person would type it from here."""
    return min(path, os.path.relpath(path), key=len)


def _row(entry: PlanEntry) -> str:
    short = entry.key[:6]
    if entry.state == "cached":
        text = f"{short} from run {entry.producer_run}" + (f"  ({entry.reason})" if entry.reason else "")
        return f"{entry.name:<13} cached   {text}"
    estimate = f"~{entry.estimate_s:.0f} s" if entry.estimate_s else ""
    return f"{entry.name:<13} runs     {entry.reason:<52} {estimate}".rstrip()


def _closing(plan: Plan) -> str:
    total, num_runs = len(plan.entries), len(plan.to_run)
    if not num_runs:
        return f"all {total} steps are cached: nothing runs."
    seconds = plan.estimate_s
    about = f", about {seconds / 60:.0f} min one after the other" if seconds and seconds >= 90 else ""
    return f"{num_runs} of {total} steps run{about}."


def plan_record(plan: Plan, settings: Settings) -> dict[str, object]:
    """The plan for programs."""
    steps = [
        {
            "step": entry.name,
            "state": entry.state,
            "key": entry.key[:KEY_CHARS],
            "reason": entry.reason,
            "producer_run": entry.producer_run,
            "estimate_s": entry.estimate_s,
        }
        for entry in plan.entries
    ]
    return {"recipe": settings.recipe, "preset": settings.preset, "store": settings.store, "steps": steps}
