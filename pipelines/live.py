"""How a run shows itself: one live table on a terminal, plain lines elsewhere, JSON lines for programs.

All three are folds of the same run records, read a few times a second by a thread; the engine does not know them.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.engine.events import RunStatus, StepStatus, fold

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_S = 0.5
PLAIN_REFRESH_S = 2.0
PLAIN_REPEAT_S = 15.0
FINAL_STATES = ("done", "cached", "failed", "stopped", "skipped")


@contextmanager
def shown(run_folder: Path, stop: threading.Event, as_json: bool) -> Iterator[None]:
    """Shows the run while the block runs, in the form that suits standard output; tells once that `stop` was asked."""
    ended = threading.Event()
    if as_json:
        target = _follow_json
    elif sys.stdout.isatty():
        target = _follow_table
    else:
        target = _follow_lines
    threads = [
        threading.Thread(target=target, args=(run_folder, ended), name="display", daemon=True),
        threading.Thread(target=_tell_stop, args=(stop, ended), name="stopping", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=5)


def _tell_stop(stop: threading.Event, ended: threading.Event) -> None:
    while not ended.is_set():
        if stop.wait(REFRESH_S):
            print("headwater: stopping: running steps save what they have", file=sys.stderr, flush=True)
            return


def _follow_table(run_folder: Path, ended: threading.Event) -> None:
    from rich.live import Live

    with Live(table(fold(run_folder)), refresh_per_second=4) as live:
        while not ended.wait(REFRESH_S):
            live.update(table(fold(run_folder)))
        live.update(table(fold(run_folder)))


def _follow_lines(run_folder: Path, ended: threading.Event) -> None:
    told: dict[str, tuple[str, float]] = {}
    while True:
        last = ended.wait(PLAIN_REFRESH_S)
        status = fold(run_folder)
        for step in status.steps.values():
            state, seconds = told.get(step.name, ("waiting", 0.0))
            due = step.state == "running" and status.seconds - seconds >= PLAIN_REPEAT_S
            if step.state != state or due:
                told[step.name] = (step.state, status.seconds)
                print(line(step), flush=True)
        if last:
            return


def _follow_json(run_folder: Path, ended: threading.Event) -> None:
    told: dict[str, str] = {}
    while True:
        last = ended.wait(PLAIN_REFRESH_S)
        for step in fold(run_folder).steps.values():
            record = json.dumps(as_record(step), ensure_ascii=False, sort_keys=True)
            if told.get(step.name) != record:
                told[step.name] = record
                print(record, flush=True)
        if last:
            return


def table(status: RunStatus) -> Table:
    """The run as a table: step, state, progress, rate, ETA, note."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, title=f"run {status.run_id}", title_justify="left")
    for column in ("step", "state", "progress", "rate", "ETA", "note"):
        grid.add_column(column, justify="right" if column in ("rate", "ETA") else "left", overflow="fold")
    for step in status.steps.values():
        grid.add_row(*cells(step))
    return grid


def cells(step: StepStatus) -> tuple[str, str, str, str, str, str]:
    """One row of the table."""
    running = step.state == "running"
    progress = _progress(step) if step.done is not None else ""
    rate = f"{_short(step.rate)} {step.unit}/s" if step.rate else ""
    eta = clock(step.eta_s) if running and step.eta_s is not None else ""
    note = step.note
    if step.state in FINAL_STATES and step.seconds:
        note = f"{clock(step.seconds)}  {note}".rstrip()
    if step.error:
        note = step.error.what
    return step.name, step.state, progress, rate, eta, note


def line(step: StepStatus) -> str:
    """One plain line: the row of the table, empty cells left out."""
    name, state, progress, rate, eta, note = cells(step)
    parts = [part for part in (progress, rate, f"ETA {eta}" if eta else "", note) if part]
    return f"{name:<12} {state:<8} {'  '.join(parts)}".rstrip()


def as_record(step: StepStatus) -> dict[str, object]:
    """One step for programs."""
    return {
        "step": step.name,
        "state": step.state,
        "done": step.done,
        "total": step.total,
        "unit": step.unit,
        "rate": step.rate,
        "eta_s": step.eta_s,
        "seconds": step.seconds,
        "note": step.note,
        "metrics": dict(step.metrics),
        "key": step.key,
        "error": step.error.to_json() if step.error else None,
    }


def clock(seconds: float) -> str:
    """Seconds as a person reads them: 0:42, 3:07, 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _progress(step: StepStatus) -> str:
    total = f" / {step.total}" if step.total else ""
    return f"{step.done}{total} {step.unit}".strip()


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
