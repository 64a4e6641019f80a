"""`headwater explain STEP`: all that is known of one step of the plan, every reason on a line of its own."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from components.errors import ConfigError
from pipelines.config import load_settings
from pipelines.engine.estimate import History
from pipelines.engine.events import step_folder
from pipelines.engine.identity import KEY_CHARS, content_key
from pipelines.engine.manifest import Manifest
from pipelines.engine.plan import Plan, PlanEntry
from pipelines.engine.store import Store
from pipelines.runs import all_runs
from pipelines.verbs.planning import STATES, duration, plan_of, selection_of, shortest

EARLIER = 5
"""Earlier artifacts that are listed."""


def explain(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints why a step runs or does not, what it reads, and what it took before."""
    store, plan = plan_of(load_settings(overrides), selection_of(options))
    if options.step not in plan:
        steps = ", ".join(entry.name for entry in plan.entries)
        raise ConfigError(f"There is no step {options.step}.", "explain", f"the steps are {steps}")
    record = explained(plan, options.step, store)
    print(json.dumps(record, ensure_ascii=False) if options.json else "\n".join(_lines(plan[options.step], record)))
    return 0


def explained(plan: Plan, name: str, store: Store) -> dict[str, object]:
    """One step of a plan for programs."""
    entry = plan[name]
    log = newest_log(store, name)
    return {
        "step": name,
        "state": entry.state,
        "key": entry.key,
        "content_key": _content_key(entry),
        "artifact": str(entry.artifact) if entry.artifact else None,
        "producer_run": entry.producer_run or None,
        "reasons": [{**reason.to_json(), "text": reason.text} for reason in entry.reasons],
        "code_policy": entry.step.code,
        "inputs": [_input(plan, entry, input_name) for input_name in entry.step.inputs],
        "earlier": [_earlier(manifest) for manifest in History(store).of(name)[:EARLIER]],
        "estimate_s": entry.estimate_s,
        "cpu_hours": entry.cost.cpu_hours,
        "gpu_hours": entry.cost.gpu_hours,
        "log": str(log) if log else None,
    }


def newest_log(store: Store, step: str) -> Path | None:
    """The log of a step in the newest run that has one."""
    logs = (step_folder(folder, step) / "log.txt" for folder in all_runs(store.workspace))
    return next((log for log in logs if log.exists()), None)


def _content_key(entry: PlanEntry) -> str | None:
    if entry.contents is None:
        return None
    counted = entry.code.digest if entry.step.code == "rerun" else None
    return content_key(entry.name, entry.step.version, entry.identity, entry.contents, counted)


def _input(plan: Plan, entry: PlanEntry, name: str) -> dict[str, object]:
    artifact = entry.step.inputs[name]
    external = artifact.path is not None
    return {
        "name": name,
        "step": artifact.name,
        "key": entry.input_keys[name],
        "state": "file" if external else plan[artifact.name].state,
        "path": str(artifact.path) if external else None,
        "content": (entry.contents or {}).get(name),
    }


def _earlier(manifest: Manifest) -> dict[str, object]:
    return {
        "key": manifest.key,
        "epoch": manifest.epoch,
        "run": manifest.run,
        "committed": manifest.committed,
        "seconds": manifest.seconds,
        "resources": dict(manifest.resources),
        "origin": manifest.origin.kind if manifest.origin else None,
    }


def _lines(entry: PlanEntry, record: dict[str, object]) -> list[str]:
    key = str(record["content_key"] or "known once its inputs are built")
    lines = [f"step {entry.name}: {STATES[entry.state]}"]
    if entry.made is not None:
        lines[0] += f", made by run {entry.producer_run} in {duration(entry.made.seconds)}"
    lines += [f"  {reason.text}" for reason in entry.reasons]
    lines += [f"key          {entry.key[:KEY_CHARS]}", f"content key  {key[:KEY_CHARS] if entry.contents else key}"]
    lines.append(f"code policy  {entry.step.code}, {len(entry.code.files)} source files")
    if record["artifact"]:
        lines.append(f"artifact     {shortest(str(record['artifact']))}")
    lines += _input_lines(record["inputs"])
    lines += _earlier_lines(record["earlier"])
    if entry.estimate_s:
        gpus = f", {entry.cost.gpu_hours:.2g} GPU-h" if entry.cost.gpu_hours else ""
        lines.append(f"expected     {duration(entry.estimate_s)}, {entry.cost.cpu_hours:.2g} CPU-h{gpus}")
    lines.append(f"log          {shortest(str(record['log']))}" if record["log"] else "log          none yet")
    return lines


def _input_lines(inputs: object) -> list[str]:
    assert isinstance(inputs, list)
    lines = ["inputs"] if inputs else []
    for row in inputs:
        where = f"{row['step']}@{row['key'][:KEY_CHARS]}" if row["path"] is None else f"{row['step']} {row['path']}"
        lines.append(f"  {row['name']:<13} {where}  {STATES.get(row['state'], 'a file from outside')}")
    return lines


def _earlier_lines(earlier: object) -> list[str]:
    assert isinstance(earlier, list)
    lines = ["earlier artifacts, the newest first"] if earlier else []
    for row in earlier:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["committed"]))
        cores = _cores(row["resources"].get("cpus", 0.0))
        how = f"{row['origin']}, " if row["origin"] else ""
        lines.append(
            f"  {row['key'][:KEY_CHARS]}  {when}  {how}{duration(row['seconds'])} on {cores}, run {row['run']}"
        )
    return lines


def _cores(number: float) -> str:
    return f"{number:g} core{'' if number == 1 else 's'}"
