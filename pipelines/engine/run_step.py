"""One attempt at one step, in the step's own process: lease, attempt folder, the function, commit.

The driver sends an `Order` and gets an `Outcome` back; whatever the step raises is turned into one, so that only the
death of the process itself is left for the driver to find out. The lease is held here, by the process that writes, and
nobody waits for it: a busy key is an outcome too, and the driver asks again without holding a core.
"""

from __future__ import annotations

import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from components.channel import Channel
from components.context import Context, Json, LocalContext
from components.errors import HeadwaterError, MachineError, Preempted, StepError, disk_full
from components.launching import RankFailed, RankLost
from pipelines.engine import events
from pipelines.engine.events import Failure
from pipelines.engine.identity import describe_config, redacted
from pipelines.engine.lock import try_lock
from pipelines.engine.manifest import InputRecord
from pipelines.engine.plan import PlanEntry
from pipelines.engine.redirect import output_to
from pipelines.engine.retry import FailureClass
from pipelines.engine.store import Found, Store, Work

OutcomeKind: TypeAlias = Literal["done", "cached", "busy", "failed", "stopped"]


@dataclass(frozen=True)
class Order:
    """What the driver asks for: one attempt at one planned step.

    Attributes:
        entry: The step and all that identifies it.
        store: Root of the store.
        run_folder: Folder of the run.
        inputs: Artifact folders and external files by input name.
        session: Number of this `execute` of the run.
        attempt: Number of the attempt in it, from 1.
        token: Unique to the attempt; names what it reserves on the cluster.
    """

    entry: PlanEntry
    store: str
    run_folder: Path
    inputs: Mapping[str, Path]
    session: int
    attempt: int
    token: str = field(default_factory=lambda: f"headwater-{uuid.uuid4().hex}")

    @property
    def folder(self) -> Path:
        """The step's channel folder."""
        return events.step_folder(self.run_folder, self.entry.name)

    @property
    def log(self) -> Path:
        """The step's log file."""
        return self.folder / "log.txt"

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
        metrics: Final metrics, of the other run where cached.
        producer_run: The run that made the artifact.
        failure: Why it failed.
        failure_class: What kind of failure, for the decision to retry.
    """

    kind: OutcomeKind
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    producer_run: str = ""
    failure: Failure | None = None
    failure_class: FailureClass = "error"


ContextMaker: TypeAlias = Callable[[Order, Path, Path], Context]


def local_maker(order: Order, output: Path, scratch: Path) -> Context:
    """The in-process context of an attempt."""
    seed = int(getattr(order.entry.step.config, "seed", 0))
    return LocalContext(order.entry.name, output, scratch, Channel(order.folder), seed)


def run_step(order: Order, make_context: ContextMaker) -> Outcome:
    """Makes one attempt at a step; never raises for what the step does.

    Args:
        order: What to run.
        make_context: Makes the context from the order, the output folder and the scratch folder.
    """
    started = time.time()
    try:
        store = Store(order.store)
        with try_lock(store.lease(order.entry.name, order.entry.key)) as mine:
            if not mine:
                return Outcome("busy")
            found = store.lookup(order.entry.name, order.entry.key)
            if found.manifest is None:
                return _build(order, store, make_context, started)
            return _outcome("cached", found)
    except Exception as error:
        return _failed(order, error, time.time() - started)


def _build(order: Order, store: Store, make_context: ContextMaker, started: float) -> Outcome:
    name, key = order.entry.name, order.entry.key
    order.record("started", key=key, pid=os.getpid())
    output = store.begin(name, key)
    with output_to(order.log), _same_process_state():
        print(f"--- {name}, attempt {order.attempt} of session {order.session}, {time.strftime('%F %T %z')}")
        try:
            context = make_context(order, output, store.scratch(name, key))
            metrics = order.entry.step.fn(context, order.entry.step.config, **order.inputs)
            found = store.commit(output, _work(order, _checked(metrics, name), started))
        except BaseException as error:
            store.discard(output)
            traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                raise
            return _failed(order, error, time.time() - started)
    return _outcome("done", found)


def _outcome(kind: OutcomeKind, found: Found) -> Outcome:
    if found.manifest is None:
        raise StepError("The artifact vanished while it was committed.", found.problem, "run again")
    return Outcome(kind, found.manifest.seconds, found.manifest.metrics, found.manifest.run)


def _work(order: Order, metrics: Mapping[str, float], started: float) -> Work:
    entry = order.entry
    inputs = {name: InputRecord(entry.step.inputs[name].name, key) for name, key in entry.input_keys.items()}
    return Work(
        step=entry.name,
        key=entry.key,
        version=entry.step.version,
        inputs=inputs,
        identity=redacted(entry.identity),
        config=describe_config(entry.step.config),
        code_digest=entry.code.digest,
        code_files=entry.code.files,
        code_policy=entry.step.code,
        run=order.run_folder.name,
        started=round(started, 3),
        seconds=round(time.time() - started, 3),
        metrics=metrics,
    )


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
    lost: FailureClass = "crash" if isinstance(error, RankLost) else "error"
    return Outcome("failed", seconds, failure=Failure.of(explain(error, order)), failure_class=lost)


def explain(error: BaseException, order: Order) -> HeadwaterError:
    """The sentence for whatever a step raised."""
    name, log = order.entry.name, str(order.log)
    full = disk_full(error)
    if full is not None:
        return full
    if isinstance(error, HeadwaterError):
        return type(error)(error.what, error.where or f"step {name}", error.fix)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
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
