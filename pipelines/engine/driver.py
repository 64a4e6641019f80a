"""The loop that runs what the plan says is missing: every step as soon as its inputs are there.

The driver keeps no truth of its own. Artifacts are in the store, transitions are events, checkpoints are in scratch;
kill it at any instant and the next `execute` starts from what is there. A failing step ends the run but not its work:
steps that are running finish and are kept, the rest is skipped, and the run ends with the sentence of the first one.
"""

from __future__ import annotations

import graphlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.context import Json
from components.errors import HeadwaterError, MachineError, disk_full
from pipelines.engine import events
from pipelines.engine.cluster import Backend, ClusterConfig, Lost, open_backend
from pipelines.engine.events import DRIVER_LOCK, Failure, RunState, RunStatus, StepStatus, step_folder
from pipelines.engine.lock import is_held, try_lock
from pipelines.engine.manifest import finite
from pipelines.engine.plan import Plan, PlanEntry
from pipelines.engine.retry import REASONS, FailureClass, RetryPolicy, decide
from pipelines.engine.run_step import Order, Outcome
from pipelines.engine.step import Artifact
from pipelines.engine.stopping import signals_set, stop_files
from pipelines.engine.store import Store

POLL_S = 0.25
LOCK_TRIES = 20


def execute(plan: Plan, store: Store, run_folder: Path, cluster: ClusterConfig, stop: threading.Event) -> RunStatus:
    """Runs a plan to its end and returns the status of the run.

    Args:
        plan: What is cached and what is to run.
        store: Where artifacts are found and left.
        run_folder: Folder of the run; a run that was interrupted may be executed again in it.
        cluster: Where steps run. Ray is started only if one does.
        stop: Set it to stop the run; SIGINT and SIGTERM do, when called from the main thread.

    Raises:
        MachineError: If the run has another driver, or its folder cannot be written.
    """
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with _only_driver(run_folder):
            session = events.latest_session(events.read_events(run_folder)) + 1
            events.append(run_folder, "run_started", session=session, cluster=cluster.kind, pid=os.getpid())
            state, failure = _Run(plan, store, run_folder, cluster, stop, session).to_end()
            error: Json = failure.to_json() if failure else None
            events.append(run_folder, "run_ended", session=session, state=state, error=error)
        return events.fold(run_folder)
    except OSError as error:
        full = disk_full(error)
        if full is None:
            raise
        raise full from error


@contextmanager
def _only_driver(run_folder: Path) -> Iterator[None]:
    """Holds the driver's lock; someone asking for the status may have it for an instant."""
    for _ in range(LOCK_TRIES):
        with try_lock(run_folder / DRIVER_LOCK) as mine:
            if mine:
                yield
                return
        time.sleep(0.05)
    raise MachineError(
        f"Run {run_folder.name} is already being driven.", str(run_folder), f"headwater status {run_folder.name}"
    )


@dataclass
class _Run:
    """One session of a run."""

    plan: Plan
    store: Store
    run_folder: Path
    cluster: ClusterConfig
    stop: threading.Event
    session: int
    running: dict[str, Order] = field(default_factory=dict)
    later: list[tuple[float, PlanEntry]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Counter[FailureClass]] = field(default_factory=dict)
    failure: Failure | None = None

    def to_end(self) -> tuple[RunState, Failure | None]:
        """Runs all that can run; returns how the session ended."""
        self._record_cached()
        if not self.plan.to_run:
            return "done", None
        for entry in self.plan.to_run:
            (step_folder(self.run_folder, entry.name) / "stop").unlink(missing_ok=True)
        try:
            backend = open_backend(self.cluster, self.plan.to_run)
        except HeadwaterError as error:
            self.failure = Failure.of(error)
            self._skip_rest(set())
            return "failed", self.failure
        try:
            with signals_set(self.stop), stop_files(self.stop, self._running_folders):
                finished = self._loop(backend)
        except KeyboardInterrupt:
            finished = set()
            self._cut_off_all(backend, "it was interrupted")
        finally:
            backend.close()
        return self._ending(finished)

    def _ending(self, finished: set[str]) -> tuple[RunState, Failure | None]:
        if self.failure is not None:
            self._skip_rest(finished)
            return "failed", self.failure
        return ("done" if len(finished) == len(self.plan.to_run) else "stopped"), None

    def _loop(self, backend: Backend) -> set[str]:
        """Runs steps until all are there, one has failed and the others have ended, or the run is stopped."""
        todo = {entry.name for entry in self.plan.to_run}
        sorter = graphlib.TopologicalSorter(
            {entry.name: [name for name in entry.step.producers if name in todo] for entry in self.plan.to_run}
        )
        sorter.prepare()
        finished: set[str] = set()
        while len(finished) < len(todo) and (self.running or self.failure is None):
            if self.stop.is_set():
                return finished | self._wind_down(backend)
            if self.failure is None:
                for name in sorter.get_ready():
                    self._submit(backend, self.plan[name])
                self._submit_due(backend)
            for name in self._collect(backend, POLL_S):
                finished.add(name)
                sorter.done(name)
        return finished

    def _collect(self, backend: Backend, timeout_s: float) -> list[str]:
        """Takes what ended; returns the steps whose artifacts are there now."""
        if not self.running:
            time.sleep(timeout_s)
        built = []
        for order, outcome in backend.wait(timeout_s):
            del self.running[order.entry.name]
            if isinstance(outcome, Lost):
                self._lost(order, outcome.failure_class, outcome.detail, None)
            elif self._settle(order, outcome):
                built.append(order.entry.name)
        return built

    def _settle(self, order: Order, outcome: Outcome) -> bool:
        """Records an outcome; True if the artifact is there."""
        if outcome.kind in ("done", "cached"):
            order.record(
                outcome.kind,
                key=order.entry.key,
                seconds=outcome.seconds,
                metrics=finite(outcome.metrics),
                producer_run=outcome.producer_run,
            )
            return True
        if outcome.kind == "busy":
            self._wait_for_other(order)
        elif outcome.kind == "stopped":
            order.record("stopped", key=order.entry.key, seconds=outcome.seconds, note="continues with the next run")
            self.stop.set()
        elif outcome.failure is not None:
            self._lost(order, outcome.failure_class, outcome.failure.what, outcome.failure)
        return False

    def _lost(self, order: Order, failure_class: FailureClass, detail: str, failure: Failure | None) -> None:
        """Retries a failed attempt if that is worth it, else fails the run."""
        name = order.entry.name
        counts = self.failures.setdefault(name, Counter())
        counts[failure_class] += 1
        decision = decide(failure_class, counts, RetryPolicy(self.cluster.max_retries), random.random())
        if decision.retry and self.failure is None and not self.stop.is_set():
            note = f"{REASONS[failure_class]}, attempt {order.attempt + 1} in {decision.delay_s:.0f} s"
            order.record("retrying", key=order.entry.key, note=note, detail=detail)
            self.later.append((time.monotonic() + decision.delay_s, order.entry))
            return
        if decision.retry and self.stop.is_set():
            order.record("stopped", key=order.entry.key, note=f"{REASONS[failure_class]} while it was asked to stop")
            return
        if failure_class != "error" or failure is None:
            failure = Failure(
                "MachineError",
                f"Step {name} was given up after {order.attempt} attempts: {REASONS[failure_class]} ({detail}).",
                str(order.log),
                f"headwater logs {name}; give it more memory or fewer ranks, and run again to continue",
            )
        self._fail(order, failure)

    def _fail(self, order: Order, failure: Failure) -> None:
        order.record("failed", key=order.entry.key, error=failure.to_json())
        self.failure = self.failure or failure

    def _wait_for_other(self, order: Order) -> None:
        name = order.entry.name
        if name not in self.busy:
            order.record("busy", key=order.entry.key, note="another run is building it")
            self.busy.add(name)
        self.later.append((time.monotonic() + POLL_S, order.entry))

    def _submit_due(self, backend: Backend) -> None:
        waiting, self.later = self.later, []
        for due, entry in waiting:
            if due > time.monotonic() or is_held(self.store.lease(entry.name, entry.key)):
                self.later.append((due, entry))
            else:
                self._submit(backend, entry)

    def _submit(self, backend: Backend, entry: PlanEntry) -> None:
        self.attempts[entry.name] += 1
        root = str(self.store.root.path)
        order = Order(entry, root, self.run_folder, {}, self.session, self.attempts[entry.name])
        try:
            inputs = {name: self._input(artifact) for name, artifact in entry.step.inputs.items()}
        except MachineError as error:
            self._fail(order, Failure.of(error))
            return
        self.running[entry.name] = replace(order, inputs=inputs)
        backend.submit(self.running[entry.name])

    def _input(self, artifact: Artifact) -> Path:
        if artifact.path is not None:
            return artifact.path
        found = self.store.lookup(artifact.name, self.plan[artifact.name].key)
        if found.path is None:
            raise MachineError(
                f"The artifact of {artifact.name} is gone.", found.problem or str(self.store), "run again to rebuild it"
            )
        return found.path

    def _wind_down(self, backend: Backend) -> set[str]:
        """Gives running steps their grace to save and end; returns those that finished all the same."""
        finished: set[str] = set()
        for name in {entry.name for _, entry in self.later} - self.busy:
            attempt = self.attempts[name]
            note = "waited for its next attempt"
            events.append(self.run_folder, "stopped", name, session=self.session, attempt=attempt, note=note)
        deadline = time.monotonic() + self.cluster.grace_s
        try:
            while self.running and time.monotonic() < deadline:
                for step in events.fold(self.run_folder).steps.values():
                    if step.name in self.running and not _has_work(step):
                        self._cut_off(backend, step.name, "it had not begun")
                finished |= set(self._collect(backend, POLL_S))
        except KeyboardInterrupt:
            self._cut_off_all(backend, "it was interrupted")
        self._cut_off_all(backend, f"it did not end within {self.cluster.grace_s:g} s")
        return finished

    def _cut_off_all(self, backend: Backend, why: str) -> None:
        for name in list(self.running):
            self._cut_off(backend, name, why)

    def _cut_off(self, backend: Backend, name: str, why: str) -> None:
        backend.cancel(name)
        self.running.pop(name).record("stopped", note=f"ended by force, {why}")

    def _record_cached(self) -> None:
        found: dict[str, Json] = {
            entry.name: {
                "key": entry.key,
                "producer_run": entry.producer_run,
                "metrics": finite(entry.metrics),
                "seconds": entry.producer_s,
                "note": entry.reason,
            }
            for entry in self.plan.entries
            if entry.state == "cached"
        }
        if found:
            events.append(self.run_folder, "cached", session=self.session, steps=found)

    def _skip_rest(self, finished: set[str]) -> None:
        ended = events.fold(self.run_folder).steps
        for entry in self.plan.to_run:
            if entry.name not in finished and (entry.name not in ended or ended[entry.name].state != "failed"):
                attempt = self.attempts[entry.name]
                events.append(
                    self.run_folder, "skipped", entry.name, session=self.session, attempt=attempt, key=entry.key
                )

    def _running_folders(self) -> list[Path]:
        return [order.folder for order in list(self.running.values())]


def _has_work(step: StepStatus) -> bool:
    """Whether a submitted step has begun something that is worth saving."""
    return step.started is not None and step.state != "retrying"
