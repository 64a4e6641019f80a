"""What a child run is to be: which steps have one, its status, its last rows.

A child stands for a step through all sessions of its run. Everything here is a pure function of what was recorded, so
that an upload of today and a replay next week come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from pipelines.engine.events import Event, RunStatus, StepStatus
from pipelines.tracking.journal import Point, equal

if TYPE_CHECKING:
    from mlflow.entities import Run

NO_CHILD = ("waiting", "skipped")
"""States of a step that has no child, unless an earlier session gave it one."""

_STEP_STATES = {"done": "FINISHED", "cached": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


@dataclass
class Child:
    """A run in MLflow.

    Attributes:
        run_id: MLflow's id.
        status: Its status there, as far as it is known here.
        started: Unix time of its start there.
        failed: It has the tag of a failure.
        noted: It has a note on how it ended.
        session: The session that it was closed for; empty while it was never closed.
        introduced: Parameters and inputs were sent by this process.
    """

    run_id: str
    status: str
    started: float
    failed: bool = False
    noted: bool = False
    session: str = ""
    introduced: bool = False

    @staticmethod
    def of(run: Run) -> Child:
        """A run that MLflow has."""
        tags = run.data.tags
        return Child(
            run_id=run.info.run_id,
            status=run.info.status,
            started=run.info.start_time / 1000,
            failed="headwater.error" in tags,
            noted=bool(tags.get("mlflow.note.content")),
            session=tags.get("headwater.session", ""),
        )


def begun_at(events: Iterable[Event]) -> dict[str, float]:
    """When each step started for the first time, in whichever session."""
    begun: dict[str, float] = {}
    for event in events:
        if event["kind"] == "started":
            name, moment = str(event["step"]), time_of(event)
            begun[name] = min(moment, begun.get(name, moment))
    return begun


def end_of_session(events: Iterable[Event], session: int) -> float:
    """Unix time of the last event of a session."""
    return max((time_of(event) for event in events if event.get("session") == session), default=0.0)


def time_of(event: Event) -> float:
    """Unix time of an event."""
    return float(cast(float, event["time"]))


def wanted_status(child: Child, step: StepStatus, run: RunStatus) -> str:
    """The status of a child in MLflow; one whose turn has not come in this session keeps how it ended before."""
    goes = run.state == "running"
    if step.state == "skipped" or (step.state == "waiting" and not (goes and step.started is not None)):
        return "KILLED" if child.status == "RUNNING" else child.status
    return _STEP_STATES.get(step.state, "RUNNING" if goes else "KILLED")


def final_points(values: Mapping[str, float], last: Mapping[str, Point], end_ms: int, produced: bool) -> list[Point]:
    """The rows of final metrics, each at the last step of its curve.

    Args:
        values: Final metrics by name.
        last: Last row of each curve of the step; of its producer where it is cached.
        end_ms: Unix time of the end of the child in milliseconds.
        produced: The curves are the producer's: the end of each is a row of this child too, so that both have the same
            names and values. Else a final metric that says what the end of its curve says is that row, and no second.
    """
    if produced:
        values = {name: point.value for name, point in last.items()} | dict(values)
        last = {name: replace(point, time_ms=end_ms) for name, point in last.items()}
    return [_final(last.get(name), name, float(value), end_ms) for name, value in values.items()]


def _final(last: Point | None, name: str, value: float, end_ms: int) -> Point:
    if last is None:
        return Point(name, 0, value, end_ms)
    return last if equal(last.value, value) else Point(name, last.step, value, end_ms)
