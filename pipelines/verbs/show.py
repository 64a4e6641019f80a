"""The verbs that only look: plan, status, logs, ui, config show."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from components.errors import ConfigError
from pipelines.config import Settings, load_settings
from pipelines.engine.events import RunStatus, fold, step_folder
from pipelines.engine.store import Store
from pipelines.runs import all_runs, find_run

FOLLOW_S = 0.3
"""Seconds between two looks at a run or log that is followed."""


def show_plan(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints what a run would do."""
    from pipelines.verbs.planning import plan_lines, plan_of, plan_record, selection_of

    settings = load_settings(overrides)
    _, plan = plan_of(settings, selection_of(options))
    if options.json:
        print(json.dumps(plan_record(plan, settings), ensure_ascii=False))
    else:
        print("\n".join(plan_lines(plan, settings)))
    return 0


def show_status(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints how a run stands, or follows it to its end; the exit code is the run's."""
    from pipelines.tracking.reaper import reap

    settings = load_settings(overrides)
    reap(settings.folder, settings.tracking)
    folder = find_run(settings.folder, options.run_id, settings.store)
    if options.watch:
        _watch(folder, options.json)
    status = fold(folder)
    _print_status(status, options.json)
    return status.exit_code


def _watch(folder: Path, as_json: bool) -> None:
    """Shows a run as `headwater run` does, until it ended or nothing drives it any more."""
    from pipelines.live import shown

    with shown(folder, threading.Event(), as_json):
        while fold(folder).state == "running":
            time.sleep(FOLLOW_S)


def _print_status(status: RunStatus, as_json: bool) -> None:
    from pipelines.live import as_record, clock, line

    if as_json:
        steps = [as_record(step) for step in status.steps.values()]
        print(json.dumps({"run": status.run_id, "state": status.state, "seconds": status.seconds, "steps": steps}))
        return
    print(f"run {status.run_id}: {status.state} after {clock(status.seconds)}")
    for step in status.steps.values():
        print(f"  {line(step)}")
    if status.error:
        print(status.error.to_error())


def show_logs(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints what a step wrote in a run, or follows it; in the newest run that ran it, if none is named."""
    if options.follow and options.json:
        raise ConfigError("a log that is followed is text.", "--json", "leave out --json or --follow")
    folder = _run_with_log(load_settings(overrides), options)
    log = step_folder(folder, options.step) / "log.txt"
    if options.follow:
        follow(log, folder)
    elif options.json:
        text = log.read_text(encoding="utf-8", errors="replace")
        print(json.dumps({"run": folder.name, "step": options.step, "log": text}, ensure_ascii=False))
    else:
        sys.stdout.write(log.read_text(encoding="utf-8", errors="replace"))
    return 0


def _run_with_log(settings: Settings, options: argparse.Namespace) -> Path:
    workspace, run_id = settings.folder, options.run_id
    folders = [find_run(workspace, run_id, settings.store)] if run_id else all_runs(workspace)
    found = next((folder for folder in folders if (step_folder(folder, options.step) / "log.txt").exists()), None)
    if options.follow and folders:
        newest = fold(folders[0])
        if newest.state == "running" and options.step in newest.steps:
            return folders[0]  # its log will come
    if found is None:
        steps = sorted({path.parent.name for folder in folders for path in folder.glob("steps/*/log.txt")})
        known = f"steps with a log: {', '.join(steps)}" if steps else "headwater run"
        raise ConfigError(f"no log of step {options.step} is recorded.", f"store={workspace}", known)
    return found


def follow(log: Path, run_folder: Path) -> None:
    """Prints a log as it grows, until its run is not running any more."""
    position = 0
    while True:
        ended = fold(run_folder).state != "running"  # asked before reading, so that the last lines are read after it
        if log.exists():
            with log.open("rb") as file:
                file.seek(position)
                piece = file.read()
            if not ended:
                piece = piece[: piece.rfind(b"\n") + 1]  # a line, or a character, may be half written
            position += len(piece)
            sys.stdout.write(piece.decode("utf-8", errors="replace"))
            sys.stdout.flush()
        if ended:
            return
        time.sleep(FOLLOW_S)


def show_ui(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Serves the MLflow UI until interrupted."""
    from pipelines.tracking.ui import run_ui

    settings = load_settings(overrides)
    return run_ui(
        settings.folder, settings.tracking, options.port, host=options.host, allow_public=options.allow_public
    )


def show_config(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints the composed configuration: JSON, or one `key=value` line a setting."""
    settings = load_settings(overrides)
    if options.json:
        print(json.dumps(dataclasses.asdict(settings), ensure_ascii=False))
    else:
        print("\n".join(config_lines(settings)))
    return 0


def config_lines(settings: Settings) -> list[str]:
    """Every setting as it would be typed on the command line."""

    def lines(value: object, key: str) -> list[str]:
        if isinstance(value, dict) and value:
            return [line for name, item in value.items() for line in lines(item, f"{key}.{name}" if key else name)]
        return [f"{key}={json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value}"]

    return lines(dataclasses.asdict(settings), "")


def artifact_of(store: Store, run_folder: Path, step: str) -> Path:
    """The files of a step's artifact in a run, on this machine.

    Raises:
        ConfigError: If the run has none.
    """
    status = fold(run_folder).steps.get(step)
    made = store.lookup(step, status.key).manifest if status is not None and status.key else None
    if made is None:
        where = f"store={store.root.url}"
        raise ConfigError(f"run {run_folder.name} has no artifact of step {step}.", where, "headwater run")
    return store.fetch(made)
