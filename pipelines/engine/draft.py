"""The part of a manifest that is known before a step's files are: who, of what, with which settings and code."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from components.context import Json
from pipelines.engine.identity import content_key, describe_config, redacted
from pipelines.engine.manifest import InputRecord, Manifest, hardware, versions
from pipelines.engine.plan import PlanEntry

ROOT = Path(__file__).resolve().parents[2]
GIT_TIMEOUT_S = 5.0


def draft(entry: PlanEntry, contents: Mapping[str, str], run: str, source: Mapping[str, Json]) -> Manifest:
    """The manifest of a planned step without its files and what its run adds.

    Args:
        entry: The step and all that identifies it.
        contents: Content digests of its inputs by name.
        run: The run that makes it.
        source: What is known of the code's origin, see `source_state`.
    """
    step = entry.step
    inputs = {name: InputRecord(step.inputs[name].name, key, contents[name]) for name, key in entry.input_keys.items()}
    resources = step.resources
    return Manifest(
        step=entry.name,
        key=entry.key,
        content_key=content_key_of(entry, contents),
        version=step.version,
        inputs=inputs,
        identity=redacted(entry.identity),
        config=describe_config(step.config),
        code_digest=entry.code.digest,
        code_files=entry.code.files,
        code_policy=step.code,
        run=run,
        resources={"cpus": resources.total_cpus, "gpus": resources.total_gpus, "ranks": resources.ranks},
        source=source,
        started=0.0,
        seconds=0.0,
        metrics={},
        versions=versions(),
        hardware=hardware(),
    )


def content_key_of(entry: PlanEntry, contents: Mapping[str, str]) -> str:
    """The content key of a planned step, given the digests of its inputs' bytes."""
    counted = entry.code.digest if entry.step.code == "rerun" else None
    return content_key(entry.name, entry.step.version, entry.identity, contents, counted)


@cache
def source_state() -> dict[str, Json]:
    """Commit of the code, whether it was changed since, and digests of that change and of the lock file.

    Empty outside a checkout but for the lock file, if that is there.
    """
    lock = ROOT / "requirements.lock"
    state: dict[str, Json] = {"lock": hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return state
    patch = _git("diff", "HEAD") or ""
    dirty = bool(_git("status", "--porcelain"))
    return {**state, "commit": commit, "dirty": dirty, "patch": hashlib.sha256(patch.encode()).hexdigest()}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
