"""Run folders: `runs/<run id>/` with run.json, config.yaml and plan.json, written once when the run is made.

A run id is a word and a number, `amber-17`: the number orders runs, the word makes one easy to say. Two processes that
ask at once get two ids, since a folder is created by only one of them.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from components.context import Json
from components.errors import HeadwaterError
from components.publish import publish_bytes, publish_json
from pipelines.engine.plan import Plan
from pipelines.engine.store import Store

_TEXT = (
    "amber alder basin birch brook cedar chalk clay cliff cloud coral crane creek delta dune egret elm ember fen fern "
    "fjord flint ford frost glade grove gull harbor hazel heron holly iris island ivory jade juniper kelp lagoon lake "
    "larch lark linden maple marsh meadow mist moss oak otter pearl pine plover pond quartz reed ridge river sage "
    "salmon shoal slate spring stone"
)
WORDS = tuple(_TEXT.split())


def new_run(store: Store, recipe: str, plan: Plan, config_yaml: str, about: Mapping[str, Json]) -> Path:
    """Makes the folder of a new run.

    Args:
        store: Where it goes.
        recipe: Name of the recipe.
        plan: What the run will do.
        config_yaml: The resolved config as text, secrets left out.
        about: What else run.json should hold: the command line, the overrides, the preset.

    Returns:
        The run folder; its name is the run id.
    """
    runs = store.run_folder("")
    runs.mkdir(parents=True, exist_ok=True)
    number = max((number_of(folder.name) for folder in runs.iterdir()), default=0)
    while True:
        number += 1
        folder = runs / f"{WORDS[number % len(WORDS)]}-{number}"
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    record: dict[str, Json] = {
        "schema": 1,
        "run": folder.name,
        "recipe": recipe,
        "created": round(time.time(), 3),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        **about,
    }
    publish_bytes(folder / "config.yaml", config_yaml.encode())
    publish_json(folder / "plan.json", plan.to_json())
    publish_json(folder / "run.json", record)
    return folder


def number_of(run_id: str) -> int:
    """The number in a run id; 0 for anything else."""
    tail = run_id.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def run_ids(store: Store) -> list[str]:
    """All runs of a store, the newest first."""
    runs = store.run_folder("")
    names = [folder.name for folder in runs.iterdir() if (folder / "run.json").exists()] if runs.is_dir() else []
    return sorted(names, key=number_of, reverse=True)


def find_run(store: Store, run_id: str = "") -> Path:
    """The folder of a run, or of the newest one.

    Raises:
        HeadwaterError: If there is none of that name.
    """
    names = run_ids(store)
    if not names:
        raise HeadwaterError("There are no runs yet.", str(store.root.path), "headwater run")
    if run_id and run_id not in names:
        raise HeadwaterError(f"There is no run {run_id}.", str(store.root.path), f"the newest is {names[0]}")
    return store.run_folder(run_id or names[0])
