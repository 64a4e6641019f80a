"""One attempt at one step, in the step's own process: lease, attempt folder, the function, commit.

The driver sends an `Order` and gets an `Outcome` back; whatever the step raises is turned into one, so that only the
death of the process itself is left for the driver to find out. The lease is held here, by the process that writes, and
nobody waits for it: a busy key is an outcome too, and the driver asks again without holding a core. A process that
loses its lease is asked to stop, cannot publish, and is ended if it goes on all the same.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from components.channel import Channel
from components.context import Json, LocalContext
from components.errors import HeadwaterError, MachineError, Preempted, StepError, disk_full
from components.launching import NodeLost, NoRoom, RankFailed, RankLost
from pipelines.engine import events
from pipelines.engine.code_digest import Sources, code_digest
from pipelines.engine.draft import draft
from pipelines.engine.events import Failure
from pipelines.engine.fan_out import ItemWork, read_items, spread
from pipelines.engine.lease import DEFAULT_LEASE_S, Lease, Seen
from pipelines.engine.manifest import Manifest
from pipelines.engine.plan import PlanEntry
from pipelines.engine.redirect import output_to
from pipelines.engine.retry import FailureClass
from pipelines.engine.step import OVER
from pipelines.engine.store import Store

OutcomeKind: TypeAlias = Literal["done", "cached", "busy", "failed", "stopped"]
LOST_EXIT_CODE = 75


@dataclass(frozen=True)
class Order:
    """What the driver asks for: one attempt at one planned step.

    Attributes:
        entry: The step and all that identifies it.
        store: Root of the store.
        workspace: Workspace of the store.
        run_folder: Folder of the run.
        inputs: Manifests of input artifacts, and paths of external files, by input name.
        session: Number of this `execute` of the run.
        attempt: Number of the attempt in it, from 1.
        source: What is known of the code's origin.
        lease_s: Time without a heartbeat after which another process may take the key over.
        stale_epoch: Epoch of the key whose holder the driver knows to be dead.
        verify: Read the inputs' bytes and compare their hashes before the step starts.
        grace_s: Seconds that a step gets to end once its lease is lost.
        pending_timeout_s: Seconds that its ranks may wait for room; 0 waits for ever.
        node_wait_s: Seconds that its ranks wait for machines that are missing.
        token: Unique to the attempt; names what it reserves on the cluster, and its lease.
    """

    entry: PlanEntry
    store: str
    workspace: str
    run_folder: Path
    inputs: Mapping[str, Path | Manifest]
    session: int
    attempt: int
    source: Mapping[str, Json] = field(default_factory=dict)
    lease_s: float = DEFAULT_LEASE_S
    stale_epoch: int | None = None
    verify: bool = False
    grace_s: float = 60.0
    pending_timeout_s: float = 0.0
    node_wait_s: float = 30.0
    token: str = field(default_factory=lambda: f"headwater-{uuid.uuid4().hex}")

    @property
    def folder(self) -> Path:
        """The step's channel folder."""
        return events.step_folder(self.run_folder, self.entry.name)

    @property
    def log(self) -> Path:
        """The step's log file."""
        return self.folder / "log.txt"

    @property
    def contents(self) -> dict[str, str]:
        """Content digests of the inputs by name."""
        known = self.entry.step.inputs
        return {
            name: given.content if isinstance(given, Manifest) else known[name].digest
            for name, given in self.inputs.items()
        }

    @property
    def draft(self) -> Manifest:
        """The manifest of what the attempt makes, without its files."""
        return draft(self.entry, self.contents, self.run_folder.name, self.source)

    def record(self, kind: str, **fields: Json) -> None:
        """Records an event of this attempt."""
        events.append(self.run_folder, kind, self.entry.name, session=self.session, attempt=self.attempt, **fields)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        kind: "done"; "cached": another run had committed it by now; "busy": another run is building it; "failed";
            "stopped": it was asked to and saved what it had.
        seconds: Wall time.
        made: The manifest of the artifact, where there is one now.
        failure: Why it failed.
        failure_class: What kind of failure, for the decision to retry.
    """

    kind: OutcomeKind
    seconds: float = 0.0
    made: Manifest | None = None
    failure: Failure | None = None
    failure_class: FailureClass = "error"


ContextMaker: TypeAlias = Callable[[Order, Path, Path], LocalContext]


def local_maker(order: Order, output: Path, scratch: Path) -> LocalContext:
    """The in-process context of an attempt."""
    seed = int(getattr(order.entry.step.config, "seed", 0))
    return LocalContext(order.entry.name, output, scratch, Channel(order.folder), seed)


def run_step(order: Order, make_context: ContextMaker, may_exit: bool = False) -> Outcome:
    """Makes one attempt at a step; never raises for what the step does.

    Args:
        order: What to run.
        make_context: Makes the context from the order, the output folder and the scratch folder.
        may_exit: This process serves the step alone, and may be ended if it goes on without its lease.
    """
    started = time.time()
    try:
        store = Store(order.store, order.workspace)
        name, key, run = order.entry.name, order.entry.key, order.run_folder.name
        lease = store.acquire(name, key, run, order.lease_s, order.stale_epoch, order.token)
        if isinstance(lease, Seen):
            return Outcome("busy")
        with _released_on_error(lease):
            manifest = order.draft
            found = store.lookup(name, key).manifest
            if found is not None and found.content_key == manifest.content_key and not order.entry.forced:
                lease.release("the artifact is there")
                return Outcome("cached", found.seconds, found)
            _check_code(order, store)
        return _build(order, store, lease, manifest, make_context, may_exit)
    except Exception as error:
        return _failed(order, error, time.time() - started)


def _build(
    order: Order, store: Store, lease: Lease, manifest: Manifest, make_context: ContextMaker, may_exit: bool
) -> Outcome:
    name, started = order.entry.name, time.time()
    lease.start_beating(lambda: _stop_writer(order, may_exit))
    with _released_on_error(lease):
        order.record("started", key=order.entry.key, pid=os.getpid(), epoch=lease.epoch)
        output = store.begin(lease)
    with output_to(order.log), _same_process_state():
        print(f"--- {name}, attempt {order.attempt} of session {order.session}, {time.strftime('%F %T %z')}")
        try:
            context = make_context(order, output, store.scratch(name, order.entry.key))
            metrics = _checked(_call(order, store, context, manifest), name)
            seconds = round(time.time() - started, 3)
            filled = replace(manifest, started=round(started, 3), seconds=seconds, metrics=metrics)
            found = store.commit(lease, output, filled)
        except BaseException as error:
            store.discard(lease, output, f"it ended with {type(error).__name__}")
            if lease.is_lost and isinstance(error, Exception):
                print(f"{name}: {error}", flush=True)
                return Outcome("busy", time.time() - started)
            traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                raise
            return _failed(order, error, time.time() - started)
    return Outcome("done", seconds, found.manifest)


def _call(order: Order, store: Store, context: LocalContext, manifest: Manifest) -> object:
    """Brings the inputs here and calls the step's function, once or once for each item."""
    step, inputs = order.entry.step, {name: _brought(order, store, given) for name, given in order.inputs.items()}
    if step.fan_out is None:
        return step.fn(context, step.config, **inputs)
    items = read_items(inputs.pop(OVER), step.name) if step.fan_out.over else list(step.fan_out.items)
    work = ItemWork(
        order.store, order.workspace, manifest, step.fn, step.config, inputs, _plain(context), order.lease_s
    )
    return spread(context, work, items, step.fan_out.min_success)


def _plain(context: LocalContext) -> LocalContext:
    """The context without what belongs to this process."""
    return LocalContext(context.step, context.output, context.scratch, context.channel, context.base_seed)


def _brought(order: Order, store: Store, given: Path | Manifest) -> Path:
    if not isinstance(given, Manifest):
        return given
    path = store.fetch(given)
    if order.verify and store.is_local and (wrong := store.damaged(given)):
        raise MachineError(
            f"{len(wrong)} files of the artifact of {given.step} are damaged, first {wrong[0]}.",
            str(path),
            f"headwater run --force {given.step} builds it again",
        )
    return path


def _check_code(order: Order, store: Store) -> None:
    """Refuses to run code that is not the planned one: its artifact would carry the wrong digest."""
    now = code_digest(order.entry.step.fn, Sources(store.workspace / "cache" / "sources.json"))
    changed = now.changed(order.entry.code.files)
    if changed:
        raise StepError(
            f"The code of {order.entry.name} was changed while the run was going: {', '.join(changed[:3])}.",
            f"step {order.entry.name}",
            f"headwater resume {order.run_folder.name} plans again with the new code",
        )


def _stop_writer(order: Order, may_exit: bool) -> None:
    """The lease is lost: asks the step to stop, and ends the process if that does not help."""
    (order.folder / "stop").touch()
    if may_exit:
        timer = threading.Timer(order.grace_s, os._exit, (LOST_EXIT_CODE,))
        timer.daemon = True
        timer.start()


@contextmanager
def _released_on_error(lease: Lease) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        lease.release(f"it ended with {type(error).__name__} before it began")
        raise


def _checked(metrics: object, name: str) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise StepError(f"Step {name} returned a {type(metrics).__name__}.", name, "return its metrics as a dict")
    for key, value in metrics.items():
        if not isinstance(key, str) or not isinstance(value, bool | int | float):
            raise StepError(
                f"Metric {key} of {name} is a {type(value).__name__}.", name, "return plain numbers by name"
            )
    return {key: float(value) for key, value in metrics.items()}


def _failed(order: Order, error: BaseException, seconds: float) -> Outcome:
    if isinstance(error, Preempted):
        return Outcome("stopped", seconds, failure=Failure.of(error))
    return Outcome("failed", seconds, failure=Failure.of(explain(error, order)), failure_class=class_of(error))


def class_of(error: BaseException | None) -> FailureClass:
    """The class of what a step raised: what lies behind an error counts too."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return "out_of_memory"
        if isinstance(error, NoRoom):
            return "pending"
        if isinstance(error, RankFailed) and "OutOfMemoryError" in str(error).partition("\n")[0]:
            return "out_of_memory"
        if isinstance(error, RankLost):
            return "node_lost" if isinstance(error, NodeLost) else "crash"
        error = error.__cause__ or error.__context__
    return "error"


def explain(error: BaseException, order: Order) -> HeadwaterError:
    """The sentence for whatever a step raised."""
    name, log = order.entry.name, str(order.log)
    full = disk_full(error)
    if full is not None:
        return full
    if isinstance(error, HeadwaterError):
        return type(error)(error.what, error.where or f"step {name}", error.fix)
    if class_of(error) == "out_of_memory":
        return MachineError(
            f"Step {name} ran out of memory.", log, f"lower its batch size, or see headwater logs {name}"
        )
    text = str(error).strip().splitlines()
    kind = "" if isinstance(error, RankFailed) else f" with {type(error).__name__}"
    what = f"Step {name} failed{kind}{': ' + text[0] if text else ''}"
    return StepError(what if what.endswith(".") else f"{what}.", log, f"headwater logs {name} shows the traceback")


@contextmanager
def _same_process_state() -> Iterator[None]:
    """Gives environment and working folder back as they were: the next step may run in this process."""
    environment, folder = dict(os.environ), os.getcwd()
    try:
        yield
    finally:
        # Only what differs is touched: other threads of the process read the environment without asking Python.
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        os.chdir(folder)
