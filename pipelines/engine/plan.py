"""What a run would do, before it does anything: each step cached or to run, why, and how long it took last time.

The plan needs the recipe, the store and the source files; it imports neither Ray nor torch, so a fully cached run is
over in a fraction of a second. The reason for a run is the difference to the newest artifact of the same step: the
config fields that changed, the inputs that changed, the source files that changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from components.context import Json
from pipelines.engine.code_digest import CodeDigest, Sources, code_digest
from pipelines.engine.identity import identity_of, recipe_key, redacted
from pipelines.engine.manifest import Manifest
from pipelines.engine.step import Step, ordered
from pipelines.engine.store import Store

PlanState: TypeAlias = Literal["cached", "runs"]


@dataclass(frozen=True)
class PlanEntry:
    """What happens to one step.

    Attributes:
        name: The step.
        key: Recipe key, 64 hex characters; tables and paths show the first 16.
        state: "cached" or "runs".
        reason: Why it runs: "config min_chars 100 -> 200"; for a cached step what is worth knowing, or nothing.
        producer_run: The run that made the artifact of a cached step.
        producer_s: Seconds that took.
        estimate_s: Seconds it took the last time it ran; None if it never did. 0 for a cached step.
        step: The step itself.
        identity: Identity fields of its config.
        input_keys: Recipe keys (content digests of external files) by input name.
        code: Digest of its code, file by file.
        artifact: The artifact folder of a cached step.
        metrics: Final metrics of a cached step.
    """

    name: str
    key: str
    state: PlanState
    reason: str
    producer_run: str
    producer_s: float | None
    estimate_s: float | None
    step: Step
    identity: Mapping[str, Json]
    input_keys: Mapping[str, str]
    code: CodeDigest
    artifact: Path | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """The steps of a recipe in an order in which they can run."""

    entries: tuple[PlanEntry, ...]

    def __getitem__(self, name: str) -> PlanEntry:
        """The entry of a step."""
        return next(entry for entry in self.entries if entry.name == name)

    @property
    def to_run(self) -> tuple[PlanEntry, ...]:
        """The entries that are not cached."""
        return tuple(entry for entry in self.entries if entry.state == "runs")

    @property
    def estimate_s(self) -> float | None:
        """Seconds of all steps to run one after the other; None if the time of one is unknown."""
        known = [entry.estimate_s for entry in self.to_run if entry.estimate_s is not None]
        return sum(known) if len(known) == len(self.to_run) else None

    def to_json(self) -> dict[str, Json]:
        """As `plan.json` of the run folder."""
        return {"schema": 1, "steps": [_entry_json(entry) for entry in self.entries]}


def make_plan(steps: Iterable[Step], store: Store) -> Plan:
    """Decides which steps are cached and why the others run.

    Args:
        steps: The steps of a recipe, in any order.
        store: Where artifacts are looked for.

    Raises:
        ConfigError: If the steps form no graph, or a config has no identity.
    """
    entries: dict[str, PlanEntry] = {}
    sources = Sources(store.root.local("cache/sources.json"))
    for step in ordered(steps):
        entries[step.name] = _plan_step(step, entries, store, sources)
    sources.keep()
    return Plan(tuple(entries.values()))


def _plan_step(step: Step, before: Mapping[str, PlanEntry], store: Store, sources: Sources) -> PlanEntry:
    identity = identity_of(step.config)
    code = code_digest(step.fn, sources)
    inputs = {name: artifact.digest or before[artifact.name].key for name, artifact in sorted(step.inputs.items())}
    key = recipe_key(step.name, step.version, identity, inputs, code.digest if step.code == "rerun" else None)
    found = store.lookup(step.name, key)
    estimate: float | None = 0.0
    if found.manifest is not None:
        reason, producer = _drift(step, code, found.manifest), found.manifest.run
    else:
        earlier = store.newest(step.name)
        estimate, producer = earlier.seconds if earlier else None, ""
        reason = found.problem or _reason(step, redacted(identity), inputs, code, earlier)
        if store.has_scratch(step.name, key):
            reason += ", continues from its scratch"
    return PlanEntry(
        name=step.name,
        key=key,
        state="cached" if found.manifest else "runs",
        reason=reason,
        producer_run=producer,
        producer_s=found.manifest.seconds if found.manifest else None,
        estimate_s=estimate,
        step=step,
        identity=identity,
        input_keys=inputs,
        code=code,
        artifact=found.path,
        metrics=found.manifest.metrics if found.manifest else {},
    )


def _reason(
    step: Step, identity: Mapping[str, Json], inputs: Mapping[str, str], code: CodeDigest, earlier: Manifest | None
) -> str:
    if earlier is None:
        return "never ran"
    reasons = []
    if step.version != earlier.version:
        reasons.append(f"version {earlier.version} -> {step.version}")
    changes = config_changes(earlier.identity, identity)
    if changes:
        reasons.append(f"config {_shortened(changes)}")
    changed = [
        step.inputs[name].name
        for name, key in inputs.items()
        if name not in earlier.inputs or earlier.inputs[name].key != key
    ]
    changed += [record.step for name, record in earlier.inputs.items() if name not in inputs]
    if changed:
        reasons.append(f"input {_shortened(list(dict.fromkeys(changed)))}")
    if step.code == "rerun" and (files := code.changed(earlier.code_files)):
        reasons.append(f"code {_shortened(files)} changed")
    return "; ".join(reasons) or "no artifact of this key"


def _drift(step: Step, code: CodeDigest, manifest: Manifest) -> str:
    files = code.changed(manifest.code_files) if step.code == "warn" else []
    return f"code {_shortened(files)} changed since, kept (code=warn)" if files else ""


def config_changes(old: Mapping[str, Json], new: Mapping[str, Json], prefix: str = "") -> list[str]:
    """The fields that differ, as "min_chars 100 -> 200"; nested ones by their dotted names."""
    changes = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += config_changes(before, after, f"{prefix}{name}.")
        elif before != after or type(before) is not type(after):
            changes.append(f"{prefix}{name} {_shown(before)} -> {_shown(after)}")
    return changes


_ABSENT = "(absent)"


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 40 else f"{text[:37]}..."


def _shortened(items: list[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more


def _entry_json(entry: PlanEntry) -> dict[str, Json]:
    return {
        "name": entry.name,
        "key": entry.key,
        "state": entry.state,
        "reason": entry.reason,
        "producer_run": entry.producer_run,
        "estimate_s": entry.estimate_s,
        "inputs": dict(entry.input_keys),
        "producers": list(entry.step.producers),
    }
