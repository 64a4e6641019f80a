"""What happened in a run: immutable event files, and the status that is their fold.

Every transition is one small file that is created once and never changed, by the driver or by a step's own process.
The status is a pure function of the set of events, whatever order they arrive or are listed in: events are ordered by
session (each `execute` on the run folder is one), attempt, launch and kind, and only then by clock, so that clocks of
several machines need not agree. They are not forced to disk one by one: what a run has made is in the store, and a
machine that goes down takes at most the last lines of the story with it. How far a running step is comes from the tail
of its journal. Nothing else keeps state, so any process can ask at any time, and a killed driver leaves nothing to
repair.

Kinds of the run: run_started, run_ended, and `cached` with a field `steps`: all that the plan found, in one file.
Kinds of a step: submitted (to a detached actor), busy (another run builds it), attached (a new driver took it up),
started, placing and placed (its ranks wait for room, and have it), retrying, detached (its driver left and it goes on),
stopped, skipped, failed, done, cached (another run had built it by now, or its inputs came out equal).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

from components import errors
from components.context import Json
from components.errors import HeadwaterError
from components.publish import publish_new, read_json
from pipelines.engine.lock import is_held
from pipelines.engine.progress import read_tail

StepState: TypeAlias = Literal[
    "waiting", "running", "retrying", "cached", "done", "failed", "stopped", "skipped", "detached"
]
RunState: TypeAlias = Literal["running", "done", "failed", "stopped", "interrupted"]
Event: TypeAlias = Mapping[str, Json]

_STATES: dict[str, StepState] = {
    "submitted": "waiting",
    "busy": "waiting",
    "attached": "running",
    "started": "running",
    "placing": "waiting",
    "placed": "running",
    "retrying": "retrying",
    "detached": "detached",
    "stopped": "stopped",
    "skipped": "skipped",
    "failed": "failed",
    "done": "done",
    "cached": "cached",
}
DRIVER_LOCK = "driver.lock"

_RANK = {kind: rank for rank, kind in enumerate(_STATES)}
_FINAL = _RANK["retrying"]


@dataclass(frozen=True)
class Failure:
    """A failure as it is written down.

    Attributes:
        kind: Name of the `HeadwaterError` class.
        what: What went wrong, one sentence.
        where: Step, file, key or row.
        fix: What to do now.
    """

    kind: str
    what: str
    where: str = ""
    fix: str = ""

    @staticmethod
    def of(error: HeadwaterError) -> Failure:
        """The record of an error."""
        return Failure(type(error).__name__, error.what, error.where, error.fix)

    def to_error(self) -> HeadwaterError:
        """The error again, to raise or print."""
        kind = getattr(errors, self.kind, HeadwaterError)
        return cast(HeadwaterError, kind(self.what, self.where, self.fix))

    def to_json(self) -> dict[str, Json]:
        """As an event field."""
        return {"kind": self.kind, "what": self.what, "where": self.where, "fix": self.fix}


@dataclass(frozen=True)
class StepStatus:
    """One row of the table.

    Attributes:
        name: The step.
        state: Where it is.
        done: Units done, as the step counts them; None before it says so.
        total: Units in all, where known.
        unit: What is counted.
        rate: Units per second over the last half minute.
        eta_s: Seconds to the end of what the step counts.
        note: What the step says, or what it waits for.
        seconds: How long it has run, or ran; of the producing run where cached.
        metrics: Final metrics, or the latest ones of a running step. No prefix.
        key: Recipe key.
        error: Why it failed.
        producer_run: The run that made the artifact of a cached step.
        attempt: Number of the attempt, from 1; 0 before it started.
        started: Unix time at which this attempt started.
    """

    name: str
    state: StepState = "waiting"
    done: int | None = None
    total: int | None = None
    unit: str = ""
    rate: float | None = None
    eta_s: float | None = None
    note: str = ""
    seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    error: Failure | None = None
    producer_run: str = ""
    attempt: int = 0
    started: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        run_id: Name of the run, such as "amber-17".
        state: "interrupted" means that its driver is gone without a word.
        started: Unix time of the first start.
        seconds: Wall time of the latest session so far.
        steps: Steps by name, in the order of the plan.
        error: What ended a failed run.
    """

    run_id: str
    state: RunState
    started: float
    seconds: float
    steps: Mapping[str, StepStatus]
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        """0 done, 3 stopped or interrupted and resumable, else the code of the error."""
        if self.state == "failed":
            return self.error.to_error().exit_code if self.error else 1
        return {"done": 0, "running": 0}.get(self.state, 3)


def step_folder(run_folder: Path, step: str) -> Path:
    """The channel folder of a step in a run: journal.jsonl, log.txt and, once it is asked to stop, `stop`."""
    return run_folder / "steps" / step


def append(run_folder: Path, kind: str, step: str | None = None, **fields: Json) -> None:
    """Records an event as a new file.

    Args:
        run_folder: Folder of the run.
        kind: One of the kinds above.
        step: The step it is about; None for the run.
        **fields: What else to say. `session`, `attempt`, `launch` and `time` order events.
    """
    event: dict[str, Json] = {"kind": kind, "step": step, "time": round(time.time(), 3), **fields}
    stamp = int(cast(float, event["time"]) * 1000)
    name = f"{stamp:014d}-{kind}-{uuid.uuid4().hex[:8]}.json"
    publish_new(run_folder / "events" / name, json.dumps(event, ensure_ascii=False).encode(), durable=False)


def read_events(run_folder: Path) -> list[dict[str, Json]]:
    """All events of a run, in no promised order. One that a power cut left empty says nothing, and is passed over."""
    return [
        cast("dict[str, Json]", read_json(path))
        for path in sorted((run_folder / "events").glob("*.json"))
        if not path.name.startswith(".") and path.stat().st_size
    ]


@dataclass(frozen=True)
class ActorRecord:
    """A detached actor that a driver started for a step.

    Attributes:
        actor: Its name on the cluster.
        key: Recipe key of what it makes.
        since: Unix time at which its step began, or it was submitted.
    """

    actor: str
    key: str
    since: float

    @property
    def token(self) -> str:
        """The token of its attempt."""
        return self.actor.rpartition(":")[2]


def actors(events: Iterable[Event]) -> dict[str, ActorRecord]:
    """The newest detached actor of each step, whether or not it is still there."""
    found: dict[str, ActorRecord] = {}
    for event in sorted(events, key=_order):
        name = str(event.get("step"))
        if event["kind"] == "submitted" and event.get("actor"):
            before = found.get(name)
            same = before is not None and before.actor == event["actor"]
            if not same:
                found[name] = ActorRecord(str(event["actor"]), str(event["key"]), _float(event, "time"))
        elif event["kind"] == "started" and name in found and found[name].key == event.get("key"):
            found[name] = replace(found[name], since=_float(event, "time"))
    return found


def latest_session(events: Iterable[Event]) -> int:
    """Number of the newest `execute` of a run; 0 if there was none."""
    return max((_int(event, "session") for event in events), default=0)


def fold(run_folder: Path, now: float | None = None) -> RunStatus:
    """Reads the status of a run from its folder.

    Args:
        run_folder: Folder of the run.
        now: Unix time to count running seconds to; the clock's if None.
    """
    now = time.time() if now is None else now
    status = fold_events(read_events(run_folder), _planned(run_folder), run_folder.name, now)
    if status.state == "running" and not is_held(run_folder / DRIVER_LOCK):
        status = replace(status, state="interrupted")
    steps = {name: _with_journal(step, run_folder, status, now) for name, step in status.steps.items()}
    return replace(status, steps=steps)


def fold_events(events: Iterable[Event], planned: Mapping[str, Sequence[str]], run_id: str, now: float) -> RunStatus:
    """The status that a set of events amounts to; their order of arrival plays no part.

    Args:
        events: Events of one run.
        planned: Producers of each planned step, in the order to show.
        run_id: Name of the run.
        now: Unix time that running things are counted to.
    """
    everything = sorted((part for event in events for part in _split(event)), key=_order)
    session = latest_session(everything)
    current = [event for event in everything if _int(event, "session") == session]
    starts = [_float(event, "time") for event in everything if event["kind"] == "run_started"]
    started = [_float(event, "time") for event in current if event["kind"] == "run_started"]
    ended = [event for event in current if event["kind"] == "run_ended"]
    names = dict.fromkeys([*planned, *(str(event["step"]) for event in current if event["step"])])
    states = {name: _step_status(name, [e for e in current if e["step"] == name], now) for name in names}
    end = _float(ended[-1], "time") if ended else now
    return RunStatus(
        run_id=run_id,
        state=cast(RunState, ended[-1]["state"]) if ended else "running",
        started=min(starts, default=now),
        seconds=max(0.0, end - min(started, default=end)),
        steps={name: _with_reason(status, planned.get(name, ()), states) for name, status in states.items()},
        error=_failure(ended[-1]) if ended else None,
    )


def _step_status(name: str, events: Sequence[Event], now: float) -> StepStatus:
    if not events:
        return StepStatus(name)
    last = events[-1]
    state = _STATES[str(last["kind"])]
    begun = [event for event in events if event["kind"] in ("started", "attached")]
    started = [_float(event, "since" if event.get("since") else "time") for event in begun]
    seconds = _float(last, "seconds") if "seconds" in last else None
    if state in ("running", "waiting") and started:
        seconds = max(0.0, now - started[-1])
    metrics = {name: float(cast(float, value)) for name, value in cast(Event, last.get("metrics") or {}).items()}
    return StepStatus(
        name=name,
        state=state,
        note=str(last.get("note", "")),
        seconds=seconds,
        metrics=metrics,
        key=next((str(event["key"]) for event in reversed(events) if "key" in event), ""),
        error=_failure(last),
        producer_run=str(last.get("producer_run", "")),
        attempt=max(_int(event, "attempt") for event in events),
        started=started[-1] if started else None,
    )


def _with_reason(status: StepStatus, producers: Sequence[str], states: Mapping[str, StepStatus]) -> StepStatus:
    if status.state != "waiting" or status.note:
        return status
    missing = [name for name in producers if name in states and states[name].state not in ("done", "cached")]
    return replace(status, note=f"for {', '.join(missing)}" if missing else "for free cores")


def _with_journal(status: StepStatus, run_folder: Path, run: RunStatus, now: float) -> StepStatus:
    if status.started is None:
        return status
    live = status.state == "running" and run.state == "running"
    tail = read_tail(step_folder(run_folder, status.name) / "journal.jsonl", status.started)
    return replace(
        status,
        done=tail.done,
        total=tail.total,
        unit=tail.unit,
        rate=tail.rate,
        eta_s=tail.eta_s(now) if live else None,
        note=status.note or tail.note,
        metrics=status.metrics or tail.metrics,
    )


def _planned(run_folder: Path) -> dict[str, list[str]]:
    path = run_folder / "plan.json"
    if not path.exists():
        return {}
    steps = cast("list[dict[str, Json]]", read_json(path)["steps"])
    taking_part = (step for step in steps if step.get("state") != "left_out")
    return {str(step["name"]): cast("list[str]", step["producers"]) for step in taking_part}


def _split(event: Event) -> Iterable[Event]:
    """One event per step out of the one that lists all cached steps."""
    steps = event.get("steps")
    if event["kind"] != "cached" or not isinstance(steps, dict):
        return (event,)
    return [{**event, "step": name, "steps": None, **cast(Event, fields)} for name, fields in steps.items()]


def _order(event: Event) -> tuple[int, int, bool, int, int, float, str]:
    rank = _RANK.get(str(event["kind"]), 0)
    text = json.dumps(event, sort_keys=True)
    moment = _float(event, "time")
    return _int(event, "session"), _int(event, "attempt"), rank >= _FINAL, _int(event, "launch"), rank, moment, text


def _failure(event: Event) -> Failure | None:
    error = event.get("error")
    return Failure(**cast("dict[str, str]", error)) if error else None


def _int(event: Event, name: str) -> int:
    return int(cast(int, event.get(name) or 0))


def _float(event: Event, name: str) -> float:
    return float(cast(float, event[name]))
