"""`headwater diff RUN RUN`: what differs between two runs: settings, code, keys and why, times, final metrics."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.context import Json
from components.errors import ConfigError
from pipelines.config import load_settings
from pipelines.engine.events import RunStatus, StepStatus, fold
from pipelines.engine.manifest import InputRecord
from pipelines.engine.reasons import ABSENT, Basis, Reason, changed_fields, differences, one_line
from pipelines.runs import find_run
from pipelines.tracking.records import RunRecord, read_run
from pipelines.verbs.planning import STATES, duration

PLAN_SCHEMA = 2
COMMIT_CHARS = 12
_HERE = ("store", "workspace", "tracking", "cluster")
"""Settings that say where a run takes place: they differ between machines and change no result."""


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    record: RunRecord
    status: RunStatus
    plan: Mapping[str, Any]

    def step(self, name: str) -> dict[str, Any] | None:
        """The planned step of that name."""
        return next((step for step in self.plan["steps"] if step["name"] == name), None)

    def basis(self, name: str) -> Basis | None:
        """What the artifact of a step rests on."""
        step = self.step(name)
        if step is None:
            return None
        inputs = {
            name: InputRecord(step["sources"][name], key, _content(self.plan, step["sources"][name]))
            for name, key in step["inputs"].items()
        }
        return Basis(step["version"], step["identity"], inputs, self.plan["code"][step["code"]])


def diff(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Compares two runs of the store."""
    settings = load_settings(overrides)
    left, right = (read_side(find_run(settings.folder, run, settings.store)) for run in options.runs)
    record = compared(left, right)
    print(json.dumps(record, ensure_ascii=False) if options.json else "\n".join(_lines(record)))
    return 0


def read_side(folder: Path) -> Side:
    """Reads one run.

    Raises:
        ConfigError: If its plan was written by another version.
    """
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    if plan["schema"] != PLAN_SCHEMA:
        raise ConfigError(f"the plan of run {folder.name} is of another version.", str(folder), "compare newer runs")
    return Side(read_run(folder), fold(folder), plan)


def compared(left: Side, right: Side) -> dict[str, Any]:
    """The comparison for programs."""
    settings = [
        reason
        for reason in changed_fields(left.record.config, right.record.config)
        if reason.name.partition(".")[0] not in _HERE
    ]
    names = list(dict.fromkeys([*left.record.steps, *right.record.steps]))
    return {
        "runs": [left.record.run_id, right.record.run_id],
        "states": [left.status.state, right.status.state],
        "seconds": [left.status.seconds, right.status.seconds],
        "config": [{"name": reason.name, "old": reason.old, "new": reason.new} for reason in settings],
        "code": [dict(left.record.git), dict(right.record.git)],
        "steps": [_step(left, right, name) for name in names],
        "metrics": _metrics(left.status, right.status),
    }


def _step(left: Side, right: Side, name: str) -> dict[str, Any]:
    before, after = left.step(name), right.step(name)
    reasons = _why(left, right, name)
    statuses = [side.status.steps.get(name) for side in (left, right)]
    return {
        "step": name,
        "same": before is not None and after is not None and before["key"] == after["key"],
        "reasons": [{**reason.to_json(), "text": reason.text} for reason in reasons],
        "reason": one_line(reasons),
        "keys": [step["key"] if step else None for step in (before, after)],
        "states": [_state(step, status) for step, status in zip((before, after), statuses, strict=True)],
        "seconds": [status.seconds if status else None for status in statuses],
    }


def _state(planned: Mapping[str, Any] | None, status: StepStatus | None) -> str:
    """How a step stands; as planned where it takes no part in the run."""
    if planned is None:
        return ABSENT
    return status.state if status else STATES[planned["state"]]


def _why(left: Side, right: Side, name: str) -> list[Reason]:
    old, new = left.basis(name), right.basis(name)
    if old is None or new is None:
        return []
    step = right.step(name)
    return differences(old, new, with_code=step is not None and step["policy"] == "rerun")


def _content(plan: Mapping[str, Any], step: str) -> str:
    made = next((entry["made"] for entry in plan["steps"] if entry["name"] == step), None)
    return str(made["content"]) if made else ""


def _metrics(left: RunStatus, right: RunStatus) -> list[dict[str, Json]]:
    rows: list[dict[str, Json]] = []
    for step in dict.fromkeys([*left.steps, *right.steps]):
        before, after = (status.steps.get(step, StepStatus(step)).metrics for status in (left, right))
        for name in dict.fromkeys([*before, *after]):
            rows.append({"name": f"{step}/{name}", "old": before.get(name), "new": after.get(name)})
    return rows


def _lines(record: Mapping[str, Any]) -> list[str]:
    left, right = record["runs"]
    sides = [f"{state} after {duration(s)}" for state, s in zip(record["states"], record["seconds"], strict=True)]
    lines = [f"run {left}: {sides[0]}", f"run {right}: {sides[1]}", "settings"]
    lines += [f"  {row['name']}: {_text(row['old'])} -> {_text(row['new'])}" for row in record["config"]] or [
        "  the same"
    ]
    lines += ["code", f"  {_commit(record['code'][0])} -> {_commit(record['code'][1])}", "steps"]
    lines += [f"  {_step_line(row)}" for row in record["steps"]]
    lines.append("metrics that differ")
    differing = [row for row in record["metrics"] if row["old"] != row["new"]]
    lines += [f"  {_metric_line(row)}" for row in differing] or ["  none"]
    return lines


def _step_line(row: Mapping[str, Any]) -> str:
    states = [
        f"{state} {duration(seconds)}" if seconds else str(state)
        for state, seconds in zip(row["states"], row["seconds"], strict=True)
    ]
    why = "same key" if row["same"] else row["reason"] or "other key"
    return f"{row['step']:<13} {states[0]:<14} {states[1]:<14} {why}"


def _metric_line(row: Mapping[str, Any]) -> str:
    old, new = row["old"], row["new"]
    change = f"  ({new - old:+.4g})" if old is not None and new is not None else ""
    return f"{row['name']:<40} {_number(old):>12} {_number(new):>12}{change}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _commit(git: Mapping[str, Any]) -> str:
    if not git.get("commit"):
        return "no commit known"
    return str(git["commit"])[:COMMIT_CHARS] + (" with changes" if git.get("dirty") else "")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
