"""Run folders: their names, what is written into one before anything runs, and finding one again.

A run id is a word and a number ("amber-17"): short enough to say aloud, and unique in its store because making the
folder is the claim. `run.json` is written once; what happens later is in the run's events.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.errors import ConfigError
from components.publish import publish_bytes, publish_json
from pipelines.config import Settings
from pipelines.engine.draft import source_state
from pipelines.engine.plan import Plan

WORDS = (
    "amber", "aspen", "birch", "bloom", "brook", "cedar", "cliff", "cloud", "coral", "creek", "delta", "dune", "ember",
    "fjord", "flint", "frost", "glade", "grove", "heath", "heron", "ivory", "jade", "larch", "maple", "marsh", "mist",
    "opal", "otter", "pearl", "pine", "quartz", "raven", "reed", "ridge", "river", "robin", "sage", "shale", "spruce",
    "stone", "swift", "tarn", "thorn", "tide", "vale", "willow", "wren",
)  # fmt: skip


def runs_folder(store: Path) -> Path:
    """Where the runs of a store are."""
    return store / "runs"


def new_run_id(store: Path) -> str:
    """A name that no run of the store has: a random word and the number of runs so far plus one."""
    folder = runs_folder(store)
    number = 1 + (sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0)
    return f"{random.SystemRandom().choice(WORDS)}-{number}"


def create_run(store: Path, settings: Settings, overrides: Sequence[str], plan: Plan, run_id: str | None) -> Path:
    """Makes the run folder with `run.json`, `config.yaml` and `plan.json`.

    Raises:
        ConfigError: If a run of that id is there already.
    """
    import yaml

    while True:
        name = run_id or new_run_id(store)
        folder = runs_folder(store) / name
        try:
            folder.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            if run_id is not None:
                raise ConfigError(f"there is a run {run_id} already.", "--run-id", "choose another name") from None
            continue
        break
    record = {
        "id": name,
        "recipe": settings.recipe,
        "preset": settings.preset,
        "created": round(time.time(), 3),
        "command": shlex.join(["headwater", "run", *overrides]),
        "overrides": list(overrides),
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "git": git_state(),
    }
    publish_bytes(folder / "config.yaml", yaml.safe_dump(_plain(asdict(settings)), allow_unicode=True).encode())
    publish_json(folder / "plan.json", plan.to_json())
    publish_json(folder / "run.json", record)
    return folder


def all_runs(store: Path) -> list[Path]:
    """The run folders of a store, the newest first."""
    folders = [path.parent for path in runs_folder(store).glob("*/run.json")]
    return sorted(folders, key=lambda folder: (created(folder), folder.name), reverse=True)


def find_run(store: Path, run_id: str | None, url: str = "") -> Path:
    """The folder of a run; of the newest one if `run_id` is None.

    Args:
        store: The workspace.
        run_id: Name of the run.
        url: The store: where that is an object store, a run which this workspace does not know is looked for there.

    Raises:
        ConfigError: If there is none.
    """
    runs = all_runs(store)
    if run_id is None and runs:
        return runs[0]
    for folder in runs:
        if folder.name == run_id:
            return folder
    if run_id is not None and "://" in url:
        from pipelines.archive import unpack
        from pipelines.engine.store import Store

        found = unpack(Store(url, store), run_id)
        if found is not None:
            return found
    known = ", ".join(folder.name for folder in runs[:5])
    if run_id is None or not known:
        raise ConfigError("no run is recorded yet.", f"store={store}", "headwater run")
    raise ConfigError(f"there is no run {run_id}.", f"store={store}", f"the newest ones are {known}")


def created(folder: Path) -> float:
    """Unix time at which the run folder was made."""
    return float(json.loads((folder / "run.json").read_text(encoding="utf-8"))["created"])


def git_state() -> dict[str, object]:
    """Commit of the code and whether it was changed since; empty outside a checkout."""
    return {name: value for name, value in source_state().items() if name in ("commit", "dirty")}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
