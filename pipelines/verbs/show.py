"""The verbs that only look: plan, status, logs, ui, config show."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from components.errors import ConfigError
from pipelines.config import Settings, load_settings
from pipelines.engine.events import fold, step_folder
from pipelines.engine.store import Store
from pipelines.runs import all_runs, find_run


def show_plan(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints what a run would do."""
    from pipelines.verbs.planning import plan_lines, plan_of, plan_record

    settings = load_settings(overrides)
    _, plan = plan_of(settings)
    if options.json:
        print(json.dumps(plan_record(plan, settings), ensure_ascii=False))
    else:
        print("\n".join(plan_lines(plan, settings)))
    return 0


def show_status(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints how a run stands; the exit code is the run's."""
    from pipelines.live import as_record, clock, line
    from pipelines.tracking.reaper import reap

    settings = load_settings(overrides)
    store = Path(settings.store)
    reap(store, settings.tracking)
    folder = find_run(store, options.run_id)
    status = fold(folder)
    if options.json:
        steps = [as_record(step) for step in status.steps.values()]
        print(json.dumps({"run": status.run_id, "state": status.state, "seconds": status.seconds, "steps": steps}))
    else:
        print(f"run {status.run_id}: {status.state} after {clock(status.seconds)}")
        for step in status.steps.values():
            print(f"  {line(step)}")
        if status.error:
            print(status.error.to_error())
    return status.exit_code


def show_logs(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Prints what a step wrote in a run; in the newest run that ran it, if none is named."""
    store = Path(load_settings(overrides).store)
    folders = [find_run(store, options.run_id)] if options.run_id else all_runs(store)
    logs = [step_folder(folder, options.step) / "log.txt" for folder in folders]
    found = next((path for path in logs if path.exists()), None)
    if found is None:
        steps = sorted({path.parent.name for folder in folders for path in folder.glob("steps/*/log.txt")})
        known = f"steps with a log: {', '.join(steps)}" if steps else "headwater run"
        raise ConfigError(f"no log of step {options.step} is recorded.", f"store={store}", known)
    text = found.read_text(encoding="utf-8", errors="replace")
    if options.json:
        print(json.dumps({"run": found.parts[-4], "step": options.step, "log": text}, ensure_ascii=False))
    else:
        sys.stdout.write(text)
    return 0


def show_ui(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Serves the MLflow UI until interrupted."""
    from pipelines.tracking.ui import run_ui

    settings = load_settings(overrides)
    return run_ui(
        Path(settings.store), settings.tracking, options.port, host=options.host, allow_public=options.allow_public
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


def artifact_of(store: Path, run_folder: Path, step: str) -> Path:
    """The artifact folder of a step in a run.

    Raises:
        ConfigError: If the run has none.
    """
    status = fold(run_folder).steps.get(step)
    path = Store(store).lookup(step, status.key).path if status is not None and status.key else None
    if path is None:
        raise ConfigError(f"run {run_folder.name} has no artifact of step {step}.", f"store={store}", "headwater run")
    return path
