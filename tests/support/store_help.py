"""Makes artifacts with nothing but the plan and the store: for tests that are not about the driver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from components.channel import Channel
from components.context import LocalContext
from pipelines.config import load_settings
from pipelines.engine import events
from pipelines.engine.draft import draft
from pipelines.engine.lease import Lease
from pipelines.engine.manifest import Manifest
from pipelines.engine.plan import Plan, PlanEntry, make_plan
from pipelines.engine.select import EVERYTHING, Selection
from pipelines.engine.step import Recipe
from pipelines.engine.store import Store
from pipelines.runs import create_run
from pipelines.verbs.planning import plan_of


def build(recipe: Recipe, store: Store, run: str = "run-1", selection: Selection = EVERYTHING) -> Plan:
    """Runs each step that the plan runs, here and in order; returns the plan of afterwards."""
    for name in [entry.name for entry in make_plan(recipe.steps, store, selection).entries]:
        entry = make_plan(recipe.steps, store, selection)[name]
        if entry.state == "runs":
            build_step(entry, make_plan(recipe.steps, store), store, run)
    return make_plan(recipe.steps, store)


def build_step(entry: PlanEntry, plan: Plan, store: Store, run: str, seconds: float = 1.0) -> Manifest:
    """Runs one step whose inputs are there, and commits it."""
    lease = store.acquire(entry.name, entry.key, run)
    assert isinstance(lease, Lease), lease
    output = store.begin(lease)
    inputs: dict[str, Path] = {}
    for name, artifact in entry.step.inputs.items():
        path = artifact.path or plan[artifact.name].artifact
        assert path is not None, artifact
        inputs[name] = path
    context = LocalContext(entry.name, output, store.scratch(entry.name, entry.key), Channel(store.run_folder(run)), 0)
    metrics = entry.step.fn(context, entry.step.config, **inputs)
    made = replace(draft(entry, entry.contents or {}, run, {}), seconds=seconds, metrics=dict(metrics))
    found = store.commit(lease, output, made)
    assert found.manifest is not None
    return found.manifest


def pretend_run(run_id: str, *overrides: str, text: str = "", seconds: float = 1.0) -> Path:
    """A finished run of the recipe `chat` of which every step wrote one small file; returns its folder."""
    settings = load_settings(list(overrides))
    store, plan = plan_of(settings)
    folder = create_run(settings.folder, settings, list(overrides), plan, run_id)
    events.append(folder, "run_started", session=1)
    for name in [entry.name for entry in plan.entries]:
        store, now = plan_of(settings)
        made = now[name].made or _pretend_step(now[name], store, run_id, text or name, seconds)
        kind = "cached" if now[name].made else "done"
        fields = {
            "key": now[name].key,
            "seconds": made.seconds,
            "metrics": dict(made.metrics),
            "producer_run": made.run,
        }
        events.append(folder, kind, name, session=1, attempt=1, **fields)  # type: ignore[arg-type]
    events.append(folder, "run_ended", session=1, state="done")
    return folder


def _pretend_step(entry: PlanEntry, store: Store, run: str, text: str, seconds: float) -> Manifest:
    lease = store.acquire(entry.name, entry.key, run)
    assert isinstance(lease, Lease), lease
    output = store.begin(lease)
    (output / "file.txt").write_text(text)
    log = events.step_folder(store.run_folder(run), entry.name) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{entry.name} ran\n")
    made = replace(
        draft(entry, entry.contents or {}, run, {}), seconds=seconds, metrics={"size": float(len(text))}, started=1.0
    )
    found = store.commit(lease, output, made)
    assert found.manifest is not None
    return found.manifest
