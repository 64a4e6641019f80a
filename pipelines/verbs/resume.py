"""`resume`, `retry`, `cancel` and `attach`: what can be done about a run that was started before.

`resume` goes on in the same run folder with the settings that were written down there: same name, same run in MLflow.
It takes up the detached steps that are still at work and looks for everything else in the store, so it does not matter
how the last driver ended. `retry` makes a new run of an old one's settings. Both plan anew, with the code as it is now:
what changed is in the plan that they print.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import yaml

from components.errors import ConfigError, MachineError
from components.publish import publish_bytes, publish_json
from pipelines.config import Settings, check_names, compose, group_options, load_settings, settings_from
from pipelines.engine import events
from pipelines.engine.driver import CANCEL_FILE
from pipelines.engine.events import DRIVER_LOCK, fold
from pipelines.engine.gc import uncollected
from pipelines.engine.identity import identity_of
from pipelines.engine.lock import is_held
from pipelines.live import clock, shown
from pipelines.runs import create_run, find_run
from pipelines.verbs.planning import plan_of, selection_of, selection_of_run
from pipelines.verbs.run import carry_out

POLL_S = 0.25
CANCEL_SPARE_S = 20.0
"""How long a cancelled driver may take beyond the grace of its steps."""


def resume(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Continues a run in its own folder; returns the exit code."""
    folder = _folder(overrides, options.run)
    if is_held(folder / DRIVER_LOCK):
        raise MachineError(
            f"Run {folder.name} is being driven.", str(folder), f"headwater attach {folder.name}, or cancel it first"
        )
    before = _written(folder)
    settings = _changed(before, overrides, folder)
    if _identity(settings) != _identity(_settings_of(before, folder)):
        raise ConfigError(
            f"Run {folder.name} is resumed with its own settings.",
            " ".join(overrides),
            f"headwater retry {folder.name} {' '.join(overrides)} makes a new run with the change",
        )
    with uncollected(settings.folder):
        store, plan = plan_of(settings, selection_of_run(options, folder))
        number = len(list(folder.glob("plan.*.json"))) + 1
        publish_bytes(folder / f"plan.{number}.json", (folder / "plan.json").read_bytes())
        publish_json(folder / "plan.json", plan.to_json())
    return carry_out(settings, store, plan, folder, options.json)


def retry(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Makes a new run of an old one's settings, with changes where given; returns the exit code."""
    folder = _folder(overrides, options.run)
    settings = _changed(_written(folder), overrides, folder)
    words = [*json.loads((folder / "run.json").read_text(encoding="utf-8"))["overrides"], *overrides]
    with uncollected(settings.folder):
        store, plan = plan_of(settings, selection_of(options))
        new = create_run(settings.folder, settings, words, plan, None)
    return carry_out(settings, store, plan, new, options.json)


def attach(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Shows a run until it ends; leaving it does nothing to the run. Returns the run's exit code."""
    folder = _folder(overrides, options.run)
    with shown(folder, threading.Event(), options.json):
        while fold(folder).state == "running":
            time.sleep(POLL_S)
    status = fold(folder)
    if not options.json:
        print(f"run {folder.name} {status.state} after {clock(status.seconds)}")
        if status.error is not None:
            print(f"headwater: {status.error.to_error()}", file=sys.stderr)
        elif status.state in ("interrupted", "stopped"):
            print(f"`headwater resume {folder.name}` continues", file=sys.stderr)
    return status.exit_code


def cancel(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Ends a run, or some of its steps, wherever they are; what is finished or saved is kept."""
    folder = _folder(overrides, options.run)
    settings = _changed(_written(folder), overrides, folder)
    steps = list(options.steps)
    known = fold(folder).steps
    for step in steps:
        if step not in known:
            raise ConfigError(f"run {folder.name} has no step {step}.", step, f"one of {', '.join(known)}")
    if is_held(folder / DRIVER_LOCK):
        ended = _ask_driver(folder, settings, steps)
    else:
        ended = _end_actors(folder, settings, steps)
    record = {"run": folder.name, "ended": ended, "state": fold(folder).state}
    text = f"run {folder.name}: ended {', '.join(ended)}" if ended else f"run {folder.name}: nothing was running"
    print(json.dumps(record) if options.json else text)
    return 0


def _ask_driver(folder: Path, settings: Settings, steps: list[str]) -> list[str]:
    """Leaves word for the driver, and waits until it has done so."""
    begun = {name for name, step in fold(folder).steps.items() if step.state in ("running", "retrying")}
    publish_bytes(folder / CANCEL_FILE, json.dumps(steps).encode())
    wanted = begun & set(steps) if steps else begun
    deadline = time.monotonic() + settings.cluster.grace_s + CANCEL_SPARE_S
    while time.monotonic() < deadline:
        now = fold(folder)
        if now.state != "running" or (steps and all(now.steps[name].state != "running" for name in steps)):
            return sorted(wanted)
        time.sleep(POLL_S)
    raise MachineError(
        f"The driver of run {folder.name} did not end in time.",
        str(folder),
        "see where it runs in run.json; ending its process lets `headwater cancel` end what it left",
    )


def _end_actors(folder: Path, settings: Settings, steps: list[str]) -> list[str]:
    """Ends the detached steps of a run that has no driver, and records it."""
    if settings.cluster.kind != "ray":
        return []
    from pipelines.engine.remote import actors_of, connect, end_actor

    connect(settings.cluster)
    session = events.latest_session(events.read_events(folder))
    ended = []
    for name in actors_of(folder.name):
        step = name.split(":")[2]
        if (not steps or step in steps) and end_actor(name):
            events.append(folder, "stopped", step, session=session, attempt=2**31, note="cancelled")
            ended.append(step)
    if not steps:
        events.append(folder, "run_ended", session=session, state="stopped", error=None)
    return sorted(ended)


def _folder(overrides: Sequence[str], run_id: str | None) -> Path:
    known = [word for word in overrides if word.partition("=")[0] in ("store", "workspace")]
    settings = load_settings(known)
    return find_run(settings.folder, run_id, settings.store)


def _written(folder: Path) -> dict[str, object]:
    """The settings that a run wrote down.

    Raises:
        ConfigError: If they are damaged.
    """
    try:
        values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"The settings of run {folder.name} cannot be read.", str(error), "start a new run") from None
    return cast("dict[str, object]", values)


def _settings_of(values: Mapping[str, object], folder: Path) -> Settings:
    """Settings out of a run's values; the workspace is where the run was found, also if it was moved."""
    moved = dict(values)
    if moved.get("store") == moved.get("workspace") or "://" not in str(moved.get("store")):
        moved["store"] = str(folder.parent.parent)
    return settings_from({**moved, "workspace": str(folder.parent.parent)})


def _changed(values: Mapping[str, object], overrides: Sequence[str], folder: Path) -> Settings:
    """The settings of a run with overrides on top: a whole group, or single values.

    Raises:
        ConfigError: As `load_settings`.
    """
    check_names(overrides)
    changed = json.loads(json.dumps(values))
    for override in sorted(overrides, key=lambda word: "." in word.partition("=")[0]):  # whole groups first
        key = override.partition("=")[0].lstrip("+~")
        if key in ("store", "workspace") or (key == "preset" and override.partition("=")[2] == values.get("preset")):
            continue
        composed: object = compose([override])
        if group_options(key) and (key not in changed or key == "preset"):
            raise ConfigError(
                f"{key} picks values for many settings at once, which a run that exists already has.",
                override,
                "give single settings, or start a new run",
            )
        target, *rest = key.split(".")
        parent, at = changed, target
        composed = cast("dict[str, object]", composed)[target]
        for part in rest:
            parent, at = parent[at], part
            composed = cast("dict[str, object]", composed)[part]
        parent[at] = composed
    return _settings_of(changed, folder)


def _identity(settings: Settings) -> dict[str, object]:
    """What of the settings decides about results."""
    values = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in ("cluster", "tracking", "preset")
    }
    return {
        name: identity_of(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in values.items()
        if name not in ("store", "workspace", "code")
    }
