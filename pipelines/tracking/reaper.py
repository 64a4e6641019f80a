"""Runs that were left behind: closed in MLflow on the next command that looks.

A driver that is killed leaves its run open only in MLflow: our own status is a fold that says "interrupted" as soon as
the driver's lock is free. The uploader beside the driver usually closes the run at once; where that died as well (the
machine went down) or the server was away too long, an uploader is started here for what is missing. It runs by itself:
looking at a status never waits for a server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from components.publish import read_json
from pipelines.engine.events import fold
from pipelines.engine.lock import is_held
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.mirror import PROGRESS_FILE
from pipelines.tracking.mlflow_sink import LOCK, release, start_uploader

AT_ONCE = 3
"""Uploaders started by one call; a longer backlog is worked off by the next ones."""

STARTING_S = 60.0
"""Age below which a run without any event is one whose driver is about to begin."""


def reap(store: Path, config: TrackingConfig) -> list[str]:
    """Starts an uploader for runs that have ended and are not complete in MLflow, the newest first.

    Args:
        store: Root folder of the store.
        config: Where to track.

    Returns:
        The runs that are being closed now.
    """
    if not config.enabled:
        return []
    reaped: list[str] = []
    for folder in unfinished(store):
        if len(reaped) == AT_ONCE:
            break
        release(start_uploader(folder, config, store))
        reaped.append(folder.name)
    return reaped


def unfinished(store: Path) -> Iterator[Path]:
    """Folders of tracked runs that have ended, are incomplete in MLflow, and that no uploader is working on."""
    paths = sorted(store.glob(f"runs/*/{PROGRESS_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        if read_json(path).get("complete") or is_held(path.parent / LOCK):
            continue
        starting = not any((path.parent / "events").glob("*.json")) and time.time() - path.stat().st_mtime < STARTING_S
        if not starting and fold(path.parent).state != "running":
            yield path.parent
