"""A manifest and a way to commit it, for tests of the store and of what stands on it; no plan and no steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.engine.lease import Lease
from pipelines.engine.manifest import InputRecord, Manifest
from pipelines.engine.store import Found, Store

KEY = "0123456789abcdef" * 4
CONTENT_KEY = "fedcba9876543210" * 4
DRAFT = Manifest(
    step="clean",
    key=KEY,
    content_key=CONTENT_KEY,
    version=1,
    inputs={"pages": InputRecord("extract", "ff" * 32, "ee" * 32)},
    identity={"min_chars": 100},
    config={"min_chars": 100, "workers": 2},
    code_digest="cc" * 32,
    code_files={"components/clean/step.py": "aa"},
    code_policy="rerun",
    run="amber-1",
    resources={"cpus": 1.0, "gpus": 0.0, "ranks": 1},
    source={},
    started=1.0,
    seconds=2.0,
    metrics={"kept": 3.0},
    versions={},
    hardware={},
)
FILES = {"deep/a.txt": "hello", "empty.txt": ""}


def held(store: Store, draft: Manifest = DRAFT, lease_s: float = 45.0) -> Lease:
    """The lease of a key that nobody holds."""
    lease = store.acquire(draft.step, draft.key, draft.run, lease_s)
    assert isinstance(lease, Lease), lease
    return lease


def write(attempt: Path, files: Mapping[str, str] = FILES) -> None:
    for name, text in files.items():
        (attempt / name).parent.mkdir(parents=True, exist_ok=True)
        (attempt / name).write_text(text)


def built(store: Store, draft: Manifest = DRAFT, files: Mapping[str, str] = FILES) -> Found:
    """Commits an artifact."""
    lease = held(store, draft)
    attempt = store.begin(lease)
    write(attempt, files)
    return store.commit(lease, attempt, draft)


def made(store: Store, draft: Manifest = DRAFT, files: Mapping[str, str] = FILES) -> Manifest:
    """As `built`; the manifest."""
    manifest = built(store, draft, files).manifest
    assert manifest is not None
    return manifest
