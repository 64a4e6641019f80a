"""From settings to a plan: what every verb that looks at the DAG starts with, and how a plan is shown."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

from pipelines.config import Settings
from pipelines.engine.events import fold
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.plan import Plan, PlanEntry, RunPolicy, make_plan
from pipelines.engine.select import EVERYTHING, OPTIONS, Selection
from pipelines.engine.step import Recipe, Step
from pipelines.engine.store import Store

STATES = {"cached": "cached", "runs": "runs", "left_out": "left out"}


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store(settings.store, settings.workspace)


def steps_of(settings: Settings) -> tuple[Step, ...]:
    """The steps of the recipe that the settings name."""
    recipe = Recipe(settings.recipe)
    module = importlib.import_module(f"pipelines.recipes.{settings.recipe}")
    getattr(module, settings.recipe)(recipe, settings)
    return recipe.steps


def pinned(settings: Settings) -> Settings:
    """The settings with the artifacts that `source` names in words named by their folders, as they are now.

    A run writes its settings down, so that going on with it goes on from the same crawl, however many came since.

    Raises:
        ConfigError: If there is no such artifact.
    """
    source = settings.source
    crawl = _folder_of(settings, source.previous_crawl, "crawl")
    dedup = _folder_of(settings, source.previous_dedup, "dedup")
    return replace(settings, source=replace(source, previous_crawl=crawl, previous_dedup=dedup))


def _folder_of(settings: Settings, named: str | None, step: str) -> str | None:
    from pipelines.verbs.artifacts import find_artifact

    if named is None or Path(named).is_dir():
        return named
    store = open_store(settings)
    made = store.newest(step) if named == "newest" else find_artifact(store, named)
    return None if made is None else str(store.fetch(made))


def selection_of(options: argparse.Namespace) -> Selection:
    """The selectors among the options of a verb."""
    return Selection.of({name: getattr(options, name, None) for name in OPTIONS})


def selection_of_run(options: argparse.Namespace, run_folder: Path) -> Selection:
    """The selectors among the options of a verb that continues a run; those the run was planned with if there are none.

    A forced step that the run has built by now is not forced again.
    """
    typed = selection_of(options)
    if typed != EVERYTHING:
        return typed
    planned = json.loads((run_folder / "plan.json").read_text(encoding="utf-8"))
    built = {name for name, step in fold(run_folder).steps.items() if step.state == "done"}
    forced = [step["name"] for step in planned["steps"] if step["forced"] and step["name"] not in built]
    return replace(Selection.from_json(planned["selection"]), force=tuple(forced), force_downstream=())


def plan_of(settings: Settings, selection: Selection = EVERYTHING) -> tuple[Store, Plan]:
    """Builds the recipe that the settings name and plans it against their store."""
    store = open_store(settings)
    return store, make_plan(steps_of(pinned(settings)), store, selection, cast(RunPolicy, settings.code))


def plan_lines(plan: Plan, settings: Settings) -> list[str]:
    """The plan as a person reads it, one line a step and a closing one."""
    head = (
        f"recipe {settings.recipe}, preset {settings.preset}, store {settings.store}, cluster {settings.cluster.kind}"
    )
    width = max([13, *(len(entry.name) for entry in plan.entries)])
    return [head, *(f"  {_row(entry, width)}" for entry in plan.entries), closing(plan, settings)]


def shortest(path: str) -> str:
    """A path as a person would type it from here."""
    return min(path, os.path.relpath(path), key=len)


def duration(seconds: float) -> str:
    """Seconds in the unit a person would choose: 0.4 s, 40 s, 6 min, 3.2 h."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _row(entry: PlanEntry, width: int) -> str:
    state = STATES[entry.state]
    if entry.state == "cached":
        text = f"{entry.key[:6]} from run {entry.producer_run}" + (f"  ({entry.reason})" if entry.reason else "")
        return f"{entry.name:<{width}} {state:<8} {text}"
    estimate = f"~{duration(entry.estimate_s)}" if entry.estimate_s else ""
    return f"{entry.name:<{width}} {state:<8} {entry.reason:<52} {estimate}".rstrip()


def closing(plan: Plan, settings: Settings) -> str:
    """The last line of a plan: how many steps run, how long that takes, and what it takes up."""
    left_out = sum(entry.state == "left_out" for entry in plan.entries)
    rest = f", {left_out} left out" if left_out else ""
    if not plan.to_run:
        total = len(plan.entries) - left_out
        return (
            f"all {total} steps are cached: nothing runs." if not left_out else f"{total} cached{rest}: nothing runs."
        )
    text = f"{len(plan.to_run)} of {len(plan.entries)} steps run{rest}{_time(plan)}{_cost(plan, settings)}."
    return f"{text} `headwater explain {plan.to_run[0].name}` for more."


def _time(plan: Plan) -> str:
    known = sum(entry.estimate_s or 0.0 for entry in plan.to_run)
    if not known:
        return ""
    if plan.untimed:
        return f", over {duration(known)} ({len(plan.untimed)} of them never ran)"
    path = f" (critical path {duration(plan.critical_s or 0.0)})" if len(plan.to_run) > 1 else ""
    return f", about {duration(known)}{path}"


def _cost(plan: Plan, settings: Settings) -> str:
    cost, cluster = plan.cost, settings.cluster
    parts = [f"{hours:.2g} {unit}" for hours, unit in ((cost.cpu_hours, "CPU-h"), (cost.gpu_hours, "GPU-h")) if hours]
    money = cost.money(cluster.price_cpu_hour, cluster.price_gpu_hour)
    return "".join(f", {part}" for part in parts) + (f", price {money:.2f}" if money else "")


def plan_record(plan: Plan, settings: Settings) -> dict[str, object]:
    """The plan for programs."""
    cost, cluster = plan.cost, settings.cluster
    return {
        "recipe": settings.recipe,
        "preset": settings.preset,
        "store": settings.store,
        "steps": [_entry_record(entry) for entry in plan.entries],
        "estimate_s": plan.estimate_s,
        "critical_s": plan.critical_s,
        "cpu_hours": cost.cpu_hours,
        "gpu_hours": cost.gpu_hours,
        "price": cost.money(cluster.price_cpu_hour, cluster.price_gpu_hour),
    }


def _entry_record(entry: PlanEntry) -> dict[str, object]:
    return {
        "step": entry.name,
        "state": entry.state,
        "key": entry.key[:KEY_CHARS],
        "reason": entry.reason,
        "reasons": [reason.to_json() for reason in entry.reasons],
        "producer_run": entry.producer_run,
        "estimate_s": entry.estimate_s,
        "cpu_hours": entry.cost.cpu_hours,
        "gpu_hours": entry.cost.gpu_hours,
    }
