"""The records of a run as one typed value: what the tracking upload and the report are made of.

`run.json`, `plan.json` and `config.yaml` are written once before anything runs; what happened since is the fold of the
events; what was made is in the manifests. Everything here is read, nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.engine.identity import redacted
from pipelines.engine.manifest import Manifest
from pipelines.engine.store import Found, Store


@dataclass(frozen=True)
class PlannedStep:
    """One step of `plan.json`.

    Attributes:
        name: The step.
        key: Recipe key.
        state: "cached" or "runs", as planned.
        reason: Why it was to run.
        inputs: Recipe keys (or content digests) by input name.
        producers: Steps whose outputs it reads.
    """

    name: str
    key: str
    state: str
    reason: str
    inputs: Mapping[str, str]
    producers: tuple[str, ...]


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run before anything runs.

    Attributes:
        folder: Its folder.
        run_id: Its name.
        recipe: Name of the recipe.
        preset: Name of the preset.
        created: Unix time at which it was made.
        command: What the user typed.
        overrides: The overrides among it.
        git: Commit and whether the tree was dirty; empty outside a checkout.
        config: The composed configuration, secrets redacted.
        steps: The planned steps by name, in order.
        store: Where its artifacts are: a folder or a URL.
    """

    folder: Path
    run_id: str
    recipe: str
    preset: str
    created: float
    command: str
    overrides: tuple[str, ...]
    git: Mapping[str, object]
    config: Mapping[str, Any]
    steps: Mapping[str, PlannedStep]
    store: str

    @property
    def uid(self) -> str:
        """Tells this run from a run of the same name in another store."""
        return f"{self.run_id}-{hashlib.sha256(f'{self.run_id} {self.created!r}'.encode()).hexdigest()[:12]}"

    def maker_of(self, key: str) -> str | None:
        """The step of this run that makes the artifact of a key; None for an external file."""
        return next((step.name for step in self.steps.values() if step.key == key), None)


def read_run(folder: Path) -> RunRecord:
    """Reads the records of a run folder."""
    import yaml

    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    steps = [
        PlannedStep(
            step["name"], step["key"], step["state"], step["reason"], dict(step["inputs"]), tuple(step["producers"])
        )
        for step in plan["steps"]
    ]
    return RunRecord(
        folder=folder,
        run_id=run["id"],
        recipe=run["recipe"],
        preset=run["preset"],
        created=float(run["created"]),
        command=run["command"],
        overrides=tuple(run["overrides"]),
        git=dict(run["git"]),
        config=redacted(config),
        steps={step.name: step for step in steps},
        store=str(config.get("store") or folder.parent.parent),
    )


def artifact_of(record: RunRecord, step: PlannedStep) -> Found:
    """The artifact of a planned step of a run; empty where there is none yet."""
    return _opened(record.store, record.folder.parent.parent).lookup(step.name, step.key)


@cache
def _opened(url: str, workspace: Path) -> Store:
    return Store(url, workspace)


def lineage(record: RunRecord) -> dict[str, Any]:
    """Which artifact was made of which, with recipe keys and content digests."""
    steps = []
    for step in record.steps.values():
        found = artifact_of(record, step)
        steps.append({"step": step.name, "key": step.key, **_made(found.manifest), "inputs": _inputs(record, step)})
    return {"run": record.run_id, "steps": steps}


def _inputs(record: RunRecord, step: PlannedStep) -> dict[str, Any]:
    return {name: {"step": record.maker_of(key) or "file", "key": key} for name, key in step.inputs.items()}


def _made(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"content": None}
    return {"content": manifest.content, "bytes": manifest.num_bytes, "run": manifest.run, "seconds": manifest.seconds}
