"""`headwater run`: plan, execute, upload, report. The same command again continues where a run ended.

The order matters to the clock: the configuration is refused before anything starts; the plan is shown before anything
runs; MLflow's schema is made while Ray starts; and a run whose steps are all cached starts no Ray at all.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pipelines.archive import archive
from pipelines.config import Settings, load_settings
from pipelines.engine.driver import execute
from pipelines.engine.events import RunStatus
from pipelines.engine.gc import uncollected
from pipelines.engine.plan import Plan
from pipelines.engine.store import Store
from pipelines.live import clock, shown
from pipelines.report.report import write_report
from pipelines.runs import create_run
from pipelines.tracking.mlflow_sink import tracked
from pipelines.tracking.reaper import reap
from pipelines.verbs.planning import open_store, pinned, plan_lines, plan_of, plan_record, selection_of, shortest

_NEXT = {
    "chat": "headwater chat | headwater ui | headwater plan clean.min_chars=200",
    "data": "headwater data stats | headwater data peek | headwater data tune min_chars",
    "pretrain": "headwater chat --stage pretrain | headwater ui | headwater plan pretrain.training.steps=2000",
    "encoder": "headwater ui | headwater plan source.labelled=FILE",
    "translate": "headwater ui | headwater plan source.pairs=FILE",
    "scaling": "headwater ui | headwater plan 'scaling.targets=[1e8@2e9]'",
}


def run(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Runs the recipe; returns the exit code."""
    settings = load_settings(overrides)
    open_store(settings)  # a place that cannot be written is refused with a sentence before a lock is made in it
    with uncollected(settings.folder):
        settings = pinned(settings)
        store, plan = plan_of(settings, selection_of(options))
        folder = create_run(settings.folder, settings, overrides, plan, options.run_id)
    return carry_out(settings, store, plan, folder, options.json)


def carry_out(settings: Settings, store: Store, plan: Plan, folder: Path, as_json: bool) -> int:
    """Shows the plan of a run whose folder is made, drives the run to its end, and tells how it ended."""
    _tell(f"run {folder.name}", {"run": folder.name, **plan_record(plan, settings)}, as_json)
    if not as_json:
        print("\n".join(plan_lines(plan, settings)), flush=True)
    status = run_plan(settings, store, plan, folder, as_json)
    return _close(status, settings, folder, store, as_json)


def run_plan(settings: Settings, store: Store, plan: Plan, folder: Path, as_json: bool) -> RunStatus:
    """Executes a plan with tracking and display around it; interrupts become a request to stop."""
    stop = threading.Event()
    reap(settings.folder, settings.tracking)  # runs that a dead machine left open in MLflow
    with tracked(folder, settings.tracking, settings.folder), shown(folder, stop, as_json):
        return execute(plan, store, folder, settings.cluster, stop)


def _close(status: RunStatus, settings: Settings, folder: Path, store: Store, as_json: bool) -> int:
    report = write_report(folder, settings.folder)
    archive(store, folder)
    if as_json:
        error = status.error.to_json() if status.error else None
        summary = {"run": status.run_id, "state": status.state, "seconds": status.seconds, "error": error}
        print(json.dumps({**summary, "report": str(report), "exit_code": status.exit_code}, ensure_ascii=False))
        return status.exit_code
    name = status.run_id
    if status.state == "done":
        _print_scores(store, status)
        print(f"run {name} done in {clock(status.seconds)}. Report: {shortest(str(report))}")
        print(f"next: {_NEXT[settings.recipe]}")
    elif status.error is not None:
        print(f"headwater: {status.error.to_error()}", file=sys.stderr)
        print(f"  run:   {name}; finished steps are kept, `headwater resume {name}` continues", file=sys.stderr)
    elif going := [step.name for step in status.steps.values() if step.state == "detached"]:
        text = f"headwater: left run {name}; {', '.join(going)} goes on: `headwater resume {name}` takes it up again"
        print(f"{text}, `headwater cancel {name}` ends it", file=sys.stderr)
    else:
        print(f"headwater: run {name} stopped; `headwater resume {name}` continues", file=sys.stderr)
    return status.exit_code


def _print_scores(store: Store, status: RunStatus) -> None:
    for name, step in status.steps.items():
        made = store.lookup(name, step.key).manifest if name.startswith(("evaluate", "scaling")) and step.key else None
        if made is not None:
            _print_table(_result_of(store.fetch(made)))


def _result_of(folder: Path) -> list[list[str]]:
    """The rows that say how it went: of the recipe `chat` made here, of others as the step left them."""
    from pipelines.report.scores import score_table, tables_of

    for table in tables_of(folder):
        return [list(table.header), *(list(row) for row in table.rows)]
    return score_table(json.loads((folder / "scores.json").read_text(encoding="utf-8")))


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def _tell(text: str, record: dict[str, object], as_json: bool) -> None:
    print(json.dumps(record, ensure_ascii=False) if as_json else text, flush=True)
