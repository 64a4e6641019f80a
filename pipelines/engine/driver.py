"""The loop that runs what the plan says is missing: every step as soon as its inputs are there.

The driver keeps no truth of its own. Artifacts are in the store, transitions are events, checkpoints are in scratch;
kill it at any instant and the next `execute` starts from what is there. Steps that were declared as detached run in
actors which outlive it, and are taken up again where they are.

Right before a step is started its inputs are there, so their bytes are known: if the same bytes have been through the
same step before, what came out is shared and nothing runs (early cut-off). What to do about a failure is decided by
its class, see `retry`; what becomes of the other steps by `cluster.on_failure`.
"""

from __future__ import annotations

import graphlib
import json
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
from pipelines.engine.cluster import Backend, ClusterConfig, ClusterLost, Lost, open_backend
from pipelines.engine.draft import content_key_of, draft, source_state
from pipelines.engine.events import DRIVER_LOCK, Failure, RunState, RunStatus, step_folder
from pipelines.engine.lease import Lease, Watch
from pipelines.engine.less_memory import difference, with_less_memory
from pipelines.engine.limits import Limits
from pipelines.engine.lock import try_lock
from pipelines.engine.manifest import Manifest, Origin, finite
from pipelines.engine.plan import Plan, PlanEntry, usable
from pipelines.engine.retry import REASONS, FailureClass, RetryPolicy, decide
from pipelines.engine.run_step import Order, Outcome
from pipelines.engine.step import Artifact
from pipelines.engine.stopping import signals_set, stop_files
from pipelines.engine.store import Store, place_of

POLL_S = 0.25
REMOTE_POLL_S = 2.0
LOCK_TRIES = 20
CANCEL_FILE = "cancel"


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
            before = events.read_events(run_folder)
            session = events.latest_session(before) + 1
            (run_folder / CANCEL_FILE).unlink(missing_ok=True)
            events.append(run_folder, "run_started", session=session, cluster=cluster.kind, pid=os.getpid())
            run = _Run(plan, store, run_folder, cluster, stop, session, events.actors(before))
            state, failure = run.to_end()
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
        f"Run {run_folder.name} is already being driven.", str(run_folder), f"headwater attach {run_folder.name}"
    )


@dataclass
class _Run:
    """One session of a run.

    Attributes beyond those of `execute`:
        session: Number of this `execute` of the run.
        actors: Detached actors that earlier sessions started, by step: name and recipe key.
        leave: Set to leave detached steps to themselves and end.
        entries: The planned steps as they are tried now: settings that bound memory may have been lowered.
        made: Manifests of what is there, by step.
        running: Attempts under way, by step.
        later: Steps to submit again, with the moment at which to.
        waiting: Steps that another run builds.
        stale: Epochs whose holders are known to be dead, by step.
        cancelled: Steps that are not wanted any more.
    """

    plan: Plan
    store: Store
    run_folder: Path
    cluster: ClusterConfig
    stop: threading.Event
    session: int
    actors: dict[str, events.ActorRecord] = field(default_factory=dict)
    leave: threading.Event = field(default_factory=threading.Event)
    entries: dict[str, PlanEntry] = field(default_factory=dict)
    made: dict[str, Manifest] = field(default_factory=dict)
    running: dict[str, Order] = field(default_factory=dict)
    later: list[tuple[float, str]] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    stale: dict[str, int] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Counter[FailureClass]] = field(default_factory=dict)
    failure: Failure | None = None

    def __post_init__(self) -> None:
        self.entries = {entry.name: entry for entry in self.plan.entries}
        self.watch = Watch(self.cluster.lease_s)
        self.limits = Limits(self.cluster, self.store)
        self.poll_s = POLL_S if self.store.is_local else REMOTE_POLL_S

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
            self._skip_rest()
            return "failed", self.failure
        leave = self.leave if backend.outlives_driver else None
        try:
            with signals_set(self.stop, leave), stop_files(self.stop, self._running_folders):
                self._attach(backend)
                self._loop(backend)
        except KeyboardInterrupt:
            self._cut_off_all(backend, "it was interrupted")
        except ClusterLost as error:
            self._cluster_lost(error)
        finally:
            backend.close()
        return self._ending()

    def _ending(self) -> tuple[RunState, Failure | None]:
        if self.failure is not None:
            self._skip_rest()
            return "failed", self.failure
        return ("done" if all(entry.name in self.made for entry in self.plan.to_run) else "stopped"), None

    def _loop(self, backend: Backend) -> None:
        """Runs steps until all are there, one has failed and the others have ended, or the run is stopped."""
        todo = {entry.name for entry in self.plan.to_run}
        sorter = graphlib.TopologicalSorter(
            {entry.name: [name for name in entry.step.producers if name in todo] for entry in self.plan.to_run}
        )
        sorter.prepare()
        urgency = _urgency(self.plan)
        while True:
            if self.leave.is_set():
                return self._leave(backend)
            if self.stop.is_set() or self._must_hurry():
                return self._wind_down(backend)
            self._obey(backend)
            if self._may_start():
                while ready := sorter.get_ready():
                    for name in sorted(ready, key=lambda name: -urgency[name]):
                        if self._start(backend, name):
                            sorter.done(name)
                for name in self._start_due(backend):
                    sorter.done(name)
            if not self.running and not (self.later and self._may_start()):
                return None
            for name in self._collect(backend, self.poll_s):
                sorter.done(name)
            self._end_overdue(backend)

    def _may_start(self) -> bool:
        return self.failure is None or self.cluster.on_failure == "keep-going"

    def _must_hurry(self) -> bool:
        return self.failure is not None and self.cluster.on_failure == "fail-fast"

    def _start(self, backend: Backend, name: str) -> bool:
        """Submits a step whose inputs are there; True if its artifact is there without that."""
        entry = self.entries[name]
        if name in self.cancelled or name in self.running:
            return False
        try:
            inputs = {key: self._input(artifact) for key, artifact in entry.step.inputs.items()}
        except MachineError as error:
            self._fail(self._order(entry, {}), Failure.of(error))
            return False
        order = self._order(entry, inputs)
        if not entry.forced and self._share(order):
            return True
        self.attempts[name] += 1
        order = replace(order, attempt=self.attempts[name], stale_epoch=self.stale.pop(name, None))
        self.running[name] = order
        self.limits.submitted(name)
        actor = backend.submit(order)
        if actor:
            order.record("submitted", key=entry.key, actor=actor)
        return False

    def _order(self, entry: PlanEntry, inputs: dict[str, Path | Manifest]) -> Order:
        return Order(
            entry=entry,
            store=self.store.root.url,
            workspace=str(self.store.workspace),
            run_folder=self.run_folder,
            inputs=inputs,
            session=self.session,
            attempt=self.attempts[entry.name],
            source=source_state(),
            lease_s=self.cluster.lease_s,
            verify=self.cluster.verify_inputs,
            grace_s=self.cluster.grace_s,
            pending_timeout_s=self.cluster.pending_timeout_s,
            node_wait_s=self.cluster.node_wait_s,
        )

    def _share(self, order: Order) -> bool:
        """Takes what the same bytes have made before, if anything; True if the artifact is there then."""
        entry = order.entry
        found = usable(self.store, entry.name, entry.key, content_key_of(entry, order.contents)).manifest
        if found is None:
            return False
        own = found if found.key == entry.key else self._alias(entry, order.contents, found)
        if own is None:
            return False
        note = "" if own is found else "inputs came out equal"
        self._record_made(order, "cached", own, note=note)
        return True

    def _alias(self, entry: PlanEntry, contents: dict[str, str], found: Manifest) -> Manifest | None:
        """Publishes an artifact under the key of this plan too; None if another process is at that key."""
        lease = self.store.acquire(entry.name, entry.key, self.run_folder.name, self.cluster.lease_s)
        if not isinstance(lease, Lease):
            return None
        origin = Origin("equal", found.step, found.key, found.epoch, "headwater", "its inputs have the same bytes")
        manifest = draft(entry, contents, self.run_folder.name, source_state())
        # Where code is no part of the key it may have changed since, which later plans must still see.
        manifest = replace(manifest, code_digest=found.code_digest, code_files=found.code_files)
        return self.store.alias(lease, manifest, found, origin).manifest

    def _input(self, artifact: Artifact) -> Path | Manifest:
        if artifact.path is not None:
            return artifact.path
        manifest = self.made[artifact.name]
        problem = self.store.missing(manifest)
        if problem:
            raise MachineError(f"The artifact of {artifact.name} is gone.", problem, "run again to rebuild it")
        return manifest

    def _attach(self, backend: Backend) -> None:
        """Takes up the detached steps that an earlier driver left; ends those that are not wanted any more."""
        for name, record in self.actors.items():
            entry = self.entries.get(name)
            if entry is None or entry.state != "runs" or entry.key != record.key or entry.forced:
                backend.end(record.actor)
                continue
            try:
                inputs = {key: self._input(artifact) for key, artifact in entry.step.inputs.items()}
            except (KeyError, MachineError):
                backend.end(record.actor)
                continue
            order = replace(self._order(entry, inputs), attempt=1, token=record.token)
            if backend.attach(order, record.actor):
                self.attempts[name] = 1
                self.running[name] = order
                self.limits.submitted(name)
                order.record("submitted", key=entry.key, actor=record.actor)
                order.record("attached", key=entry.key, since=record.since)

    def _collect(self, backend: Backend, timeout_s: float) -> list[str]:
        """Takes what ended; returns the steps whose artifacts are there now."""
        if not self.running:
            time.sleep(timeout_s)
        built = []
        for order, outcome in backend.wait(timeout_s):
            name = order.entry.name
            del self.running[name]
            overdue = self.limits.ended(name)
            if isinstance(outcome, Lost):
                self._lost(order, outcome.failure_class, outcome.detail, None)
            elif overdue and outcome.kind == "stopped":
                self._lost(order, overdue.failure_class, overdue.detail, None)
            elif self._settle(order, outcome):
                built.append(name)
        return built

    def _settle(self, order: Order, outcome: Outcome) -> bool:
        """Records an outcome; True if the artifact is there."""
        if outcome.made is not None and outcome.kind in ("done", "cached"):
            self._record_made(order, outcome.kind, outcome.made)
            return True
        if outcome.kind == "busy":
            self._wait_for_other(order)
        elif outcome.kind == "stopped":
            order.record("stopped", key=order.entry.key, seconds=outcome.seconds, note="continues with the next run")
            if order.entry.name not in self.cancelled:
                self.stop.set()
        elif outcome.failure is not None:
            self._lost(order, outcome.failure_class, outcome.failure.what, outcome.failure)
        return False

    def _record_made(self, order: Order, kind: str, made: Manifest, **fields: Json) -> None:
        self.made[order.entry.name] = made
        order.record(
            kind, key=made.key, seconds=made.seconds, metrics=finite(made.metrics), producer_run=made.run, **fields
        )

    def _lost(self, order: Order, failure_class: FailureClass, detail: str, failure: Failure | None) -> None:
        """Retries a failed attempt if that is worth it, else fails the run."""
        name = order.entry.name
        seen = self.store.look(name, order.entry.key)
        if seen.is_held_by(order.token):
            self.stale[name] = seen.epoch
        if name in self.cancelled:
            order.record("stopped", key=order.entry.key, note="cancelled")
            return
        counts = self.failures.setdefault(name, Counter())
        counts[failure_class] += 1
        changed = self._lower_memory(order) if failure_class == "out_of_memory" else ""
        if changed:
            counts[failure_class] = 0  # bounded by what there is to lower
        policy = RetryPolicy(self.cluster.max_retries, self.cluster.max_preemptions)
        decision = decide(failure_class, counts, policy, random.random())
        if decision.retry and self._may_start() and not self.stop.is_set():
            note = f"{REASONS[failure_class]}, attempt {order.attempt + 1} in {decision.delay_s:.0f} s"
            note += f" with {changed}" if changed else ""
            order.record("retrying", key=order.entry.key, note=note, detail=detail)
            self.later.append((time.monotonic() + decision.delay_s, name))
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

    def _lower_memory(self, order: Order) -> str:
        """Lowers what a step says it can do with less of; what was changed, or nothing."""
        name = order.entry.name
        step = self.entries[name].step
        smaller = with_less_memory(step.config)
        if smaller is None:
            return ""
        self.entries[name] = replace(self.entries[name], step=replace(step, config=smaller))
        return difference(step.config, smaller)

    def _fail(self, order: Order, failure: Failure) -> None:
        order.record("failed", key=order.entry.key, error=failure.to_json())
        self.failure = self.failure or failure

    def _wait_for_other(self, order: Order) -> None:
        name = order.entry.name
        if not self.stop.is_set():
            (order.folder / "stop").unlink(missing_ok=True)  # written when the attempt lost its lease
        if name not in self.waiting:
            order.record("busy", key=order.entry.key, note="another run is building it")
            self.waiting.add(name)
        self.later.append((time.monotonic() + self.poll_s, name))

    def _start_due(self, backend: Backend) -> list[str]:
        """Submits what has waited long enough; returns the steps whose artifacts are there without that."""
        due, self.later = self.later, []
        built = []
        for moment, name in due:
            if moment > time.monotonic() or self._is_held(name):
                self.later.append((moment, name))
            elif self._start(backend, name):
                built.append(name)
        return built

    def _is_held(self, name: str) -> bool:
        """Whether another process holds the key of a step; one that is dead is noted as such."""
        key = self.entries[name].key
        seen = self.store.look(name, key)
        if not seen.held or self.stale.get(name) == seen.epoch:
            return False
        if self.watch.is_stale(place_of(name, key), seen):
            self.stale[name] = seen.epoch
            return False
        return True

    def _end_overdue(self, backend: Backend) -> None:
        """Asks steps that are over a limit to stop, and ends those that do not."""
        for order, verdict in self.limits.look(list(self.running.values())):
            name = order.entry.name
            if not verdict.by_force:
                (order.folder / "stop").touch()
                continue
            backend.cancel(name)
            del self.running[name]
            self.limits.ended(name)
            (order.folder / "stop").unlink(missing_ok=True)
            self._lost(order, verdict.failure_class, verdict.detail, None)

    def _obey(self, backend: Backend) -> None:
        """Does what `headwater cancel` asks for: the whole run, or some of its steps."""
        path = self.run_folder / CANCEL_FILE
        if not path.exists():
            return
        steps = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        if not steps:
            self.stop.set()
            return
        for name in steps:
            self.cancelled.add(name)
            if name in self.running:
                (self.running[name].folder / "stop").touch()
                self.limits.give_up(name)
            elif name in self.entries and name not in self.made:
                order = self._order(self.entries[name], {})
                order.record("stopped", key=order.entry.key, note="cancelled")
        self.later = [(due, name) for due, name in self.later if name not in self.cancelled]

    def _leave(self, backend: Backend) -> None:
        """Ends the driver and not the work: detached steps are asked to save, and go on by themselves."""
        for order in backend.detach():
            del self.running[order.entry.name]
            (order.folder / "save").touch()
            order.record("detached", key=order.entry.key, note="goes on without a driver")
        self._cut_off_all(backend, "its driver was ended")

    def _wind_down(self, backend: Backend) -> None:
        """Gives running steps their grace to save and end."""
        for name in {name for _, name in self.later} - self.waiting:
            attempt = self.attempts[name]
            note = "waited for its next attempt"
            events.append(self.run_folder, "stopped", name, session=self.session, attempt=attempt, note=note)
        if self._must_hurry():
            for folder in self._running_folders():
                (folder / "stop").touch()
        deadline = time.monotonic() + self.cluster.grace_s
        try:
            while self.running and time.monotonic() < deadline:
                for order in list(self.running.values()):
                    if not self.limits.has_started(order):
                        self._cut_off(backend, order.entry.name, "it had not begun")
                self._collect(backend, self.poll_s)
        except KeyboardInterrupt:
            self._cut_off_all(backend, "it was interrupted")
        self._cut_off_all(backend, f"it did not end within {self.cluster.grace_s:g} s")

    def _cut_off_all(self, backend: Backend, why: str) -> None:
        for name in list(self.running):
            self._cut_off(backend, name, why)

    def _cut_off(self, backend: Backend, name: str, why: str) -> None:
        backend.cancel(name)
        self.running.pop(name).record("stopped", note=f"ended by force, {why}")

    def _cluster_lost(self, error: ClusterLost) -> None:
        """The cluster is gone with all that ran on it; what was committed and saved is not."""
        fix = f"start it again, then headwater resume {self.run_folder.name}"
        failure = Failure("MachineError", str(error.what), error.where, fix)
        for order in list(self.running.values()):
            order.record("stopped", key=order.entry.key, note="the cluster was lost; continues with resume")
        self.running.clear()
        self.failure = self.failure or failure

    def _record_cached(self) -> None:
        found: dict[str, Json] = {}
        for entry in self.plan.entries:
            if entry.made is None or entry.state != "cached":
                continue
            made = entry.made
            if made.key != entry.key:
                contents = {
                    name: artifact.digest or self.made[artifact.name].content
                    for name, artifact in entry.step.inputs.items()
                }
                if made.content_key == content_key_of(entry, contents):
                    made = self._alias(entry, contents, made) or made
            self.made[entry.name] = made
            found[entry.name] = {
                "key": made.key,
                "producer_run": made.run,
                "metrics": finite(made.metrics),
                "seconds": made.seconds,
                "note": entry.reason,
            }
        if found:
            events.append(self.run_folder, "cached", session=self.session, steps=found)

    def _skip_rest(self) -> None:
        ended = events.fold(self.run_folder).steps
        for entry in self.plan.to_run:
            stopped = entry.name in ended and ended[entry.name].state in ("failed", "stopped")
            if entry.name not in self.made and not stopped:
                attempt = self.attempts[entry.name]
                events.append(
                    self.run_folder, "skipped", entry.name, session=self.session, attempt=attempt, key=entry.key
                )

    def _running_folders(self) -> list[Path]:
        return [order.folder for order in list(self.running.values())]


def _urgency(plan: Plan) -> dict[str, float]:
    """Seconds from the start of each step to the end of the longest path below it, as far as that is known."""
    below: dict[str, float] = {entry.name: 0.0 for entry in plan.entries}
    for entry in reversed(plan.entries):
        below[entry.name] += entry.estimate_s or 0.0
        for name in entry.step.producers:
            below[name] = max(below[name], below[entry.name])
    return below
