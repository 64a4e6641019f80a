"""`headwater schedule`: keep, list and remove schedules, and serve them.

A tick starts the same command a user would type: a driver process of its own on this machine, which outlives the
scheduler, or a job on the Ray cluster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import Settings, load_settings
from pipelines.engine.stopping import signals_set
from pipelines.runs import new_run_id
from pipelines.schedule import entry as entries
from pipelines.schedule.entry import Entry
from pipelines.schedule.serve import Launched, SystemClock, serve
from pipelines.schedule.ticks import newest_first, next_tick

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def schedule(overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Carries out one action on the schedules of the store."""
    settings = load_settings(overrides)
    store = settings.folder
    if options.action == "add":
        return _add(store, settings, overrides, options)
    if options.action == "ls":
        return _list(store, options.json)
    if options.action == "rm":
        entries.remove(store, options.name)
        print(json.dumps({"removed": options.name}) if options.json else f"removed schedule {options.name}")
        return 0
    stop = threading.Event()
    with signals_set(stop):
        serve(store, SystemClock(), Launcher(store), stop, lambda text: print(text, flush=True))
    return 0


def _add(store: Path, settings: Settings, overrides: Sequence[str], options: argparse.Namespace) -> int:
    mode = "submit" if options.submit else "run"
    address = settings.cluster.dashboard if options.submit else None
    entry = Entry(options.name, options.cron, options.tz, tuple(overrides), mode, address)
    stored = entries.add(store, entry, datetime.now(UTC))
    following = _local(stored, next_tick(stored, datetime.now(UTC)))
    if options.json:
        print(json.dumps({**asdict(stored), "next": following}, ensure_ascii=False))
    else:
        print(f"schedule {stored.name}: next tick {following}; `headwater schedule serve` runs it")
    return 0


def _list(store: Path, as_json: bool) -> int:
    now = datetime.now(UTC)
    rows = []
    for name in entries.names(store):
        entry = entries.load(store, name)
        last = next(newest_first(store, name), None)
        rows.append(
            {**asdict(entry), "next": _local(entry, next_tick(entry, now)), "last": asdict(last) if last else None}
        )
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        tick = row["last"]
        last_text = f"{tick['tick']} {tick['state']} {tick['run'] or tick['reason']}".rstrip() if tick else "never"
        print(f"{row['name']:<16} {row['cron']:<14} {row['tz']:<16} next {row['next']}  last {last_text}")
    if not rows:
        print('no schedule yet: headwater schedule add weekly --cron "0 3 * * 1" --tz Asia/Shanghai')
    return 0


def _local(entry: Entry, instant: datetime) -> str:
    return instant.astimezone(entry.zone).isoformat(timespec="minutes")


@dataclass(frozen=True)
class Job:
    """A submitted job, seen as a process: `poll` is None while it goes."""

    client: JobSubmissionClient
    name: str

    def poll(self) -> int | None:
        """Its exit code once it ended."""
        info = self.client.get_job_info(self.name)
        if not info.status.is_terminal():
            return None
        return int(info.driver_exit_code) if info.driver_exit_code is not None else 1


@dataclass(frozen=True)
class Launcher:
    """Starts the run of a tick."""

    store: Path

    def __call__(self, entry: Entry) -> Launched:
        """Runs or submits, as the entry says; returns as soon as the run has its name."""
        if entry.mode == "submit":
            from pipelines.verbs.submit import connect, start_job

            settings = load_settings(entry.overrides)
            client = connect(entry.address or settings.cluster.dashboard)
            name = start_job(client, settings, entry.overrides, None)
            return Launched(name, Job(client, name))
        name = new_run_id(self.store)
        command = [sys.executable, "-m", "pipelines.cli", "run", "--run-id", name, *entry.overrides]
        log = entries.folder_of(self.store, entry.name) / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        return Launched(name, process)
