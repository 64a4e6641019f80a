"""Steps on Ray: the only place, with `ray_context` and `ranks`, that speaks to it.

Every attempt is one task, or one detached actor where the step is to outlive its driver, without Ray's own retries:
the driver decides about those, with a delay and by class of failure. A step that launches ranks holds no core itself,
since its ranks are placed as a group of their own while it waits. Truth stays in the store, so nothing is lost with
the cluster.

An actor runs one call at a time. A driver that finds the actor of an earlier one asks it for its outcome: that call
waits in the actor's queue behind the work, and is answered when the work is done.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import Any

import ray
import ray.exceptions as gone

from components.errors import MachineError, StepError
from pipelines.engine.cluster import Capacity, ClusterConfig, ClusterLost, Lost, usable_cpus
from pipelines.engine.events import Failure
from pipelines.engine.ranks import NODE_WORDS, free_groups
from pipelines.engine.ray_context import ray_maker
from pipelines.engine.retry import FailureClass
from pipelines.engine.run_step import Order, Outcome, run_step
from pipelines.engine.step import Resources

NAMESPACE = "headwater"
KNOCK_S = 5.0
LINGER_S = 30.0
"""How long an actor waits, its work done, for a driver to ask how it went; then it gives its cores back."""
WATCH_EVERY_S = 2.0
LOST_AFTER_S = 10.0

_LOSSES: tuple[tuple[type[Exception], FailureClass], ...] = (
    (gone.OutOfMemoryError, "out_of_memory"),
    (gone.NodeDiedError, "node_lost"),
    (gone.ObjectLostError, "node_lost"),
    (gone.LocalRayletDiedError, "node_lost"),
    (gone.WorkerCrashedError, "crash"),
    (gone.RayActorError, "crash"),
)
_WORDS: tuple[tuple[str, FailureClass], ...] = (
    ("low on memory", "out_of_memory"),
    *((words, "node_lost") for words in NODE_WORDS),
)
"""What Ray says of an actor's death where its class does not tell."""


class StepActor:
    """The process of a detached step."""

    def __init__(self) -> None:
        self._outcome: Outcome | None = None

    def run(self, order: Order) -> Outcome:
        """Makes the attempt; the process ends a while after it, unless a driver ends it before."""
        self._outcome = run_step(order, ray_maker, may_exit=True)
        timer = threading.Timer(LINGER_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        return self._outcome

    def outcome(self) -> Outcome | None:
        """How the attempt went; answered once it is over. None if it never came here."""
        return self._outcome


class RayBackend:
    """Runs orders as tasks and actors of the cluster this process is connected to, or connects to one.

    Args:
        config: Which cluster.

    Raises:
        MachineError: If there is no such cluster.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._owns = not ray.is_initialized()
        if self._owns:
            connect(config)
        self.outlives_driver = config.kind == "ray"
        self._task = ray.remote(_run_remotely)
        self._actor = ray.remote(StepActor)
        self._running: dict[Any, Order] = {}
        self._actors: dict[str, Any] = {}
        is_client = config.address.startswith("ray://")
        self._heart = _Heart(config.address if is_client else ray.get_runtime_context().gcs_address)

    def submit(self, order: Order) -> str:
        """See `Backend.submit`."""
        step = order.entry.step
        options = task_options(step.resources)
        if not step.detached:
            reference = self._task.options(name=f"step:{step.name}", max_retries=0, **options).remote(order)
            self._running[reference] = order
            return ""
        name = actor_name(order)
        actor = self._actor.options(
            name=name, namespace=NAMESPACE, lifetime="detached", max_restarts=0, max_task_retries=0, **options
        ).remote()
        self._actors[order.token] = actor
        self._running[actor.run.remote(order)] = order
        return name

    def attach(self, order: Order, actor: str) -> bool:
        """See `Backend.attach`."""
        try:
            handle = ray.get_actor(actor, namespace=NAMESPACE)
        except ValueError:
            return False
        self._actors[order.token] = handle
        self._running[handle.outcome.remote()] = order
        return True

    def detach(self) -> list[Order]:
        """See `Backend.detach`."""
        left = {reference: order for reference, order in self._running.items() if order.token in self._actors}
        for reference, order in left.items():
            del self._running[reference], self._actors[order.token]
        return list(left.values())

    def end(self, actor: str) -> None:
        """See `Backend.end`."""
        end_actor(actor)

    def wait(self, timeout_s: float) -> list[tuple[Order, Outcome | Lost]]:
        """See `Backend.wait`."""
        self._heart.check()
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if ready:  # and whatever else has ended meanwhile, without waiting
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        ended = []
        for reference in ready:
            outcome = _result(reference, self._running[reference])
            if isinstance(outcome, Lost):
                self._heart.check(now=True)
            order = self._running.pop(reference)
            self._end_own_actor(order)
            if isinstance(outcome, Lost):
                free_groups(order.token)
            ended.append((order, outcome))
        return ended

    def cancel(self, step: str) -> None:
        """See `Backend.cancel`."""
        for reference, order in list(self._running.items()):
            if order.entry.name == step:
                if order.token not in self._actors:
                    ray.cancel(reference, force=True)
                self._end_own_actor(order)
                del self._running[reference]
                free_groups(order.token)

    def capacity(self) -> Capacity:
        """What the cluster has now."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return Capacity(
            cpus=sum(node.get("CPU", 0.0) for node in nodes),
            node_cpus=max((node.get("CPU", 0.0) for node in nodes), default=0.0),
            gpus=sum(node.get("GPU", 0.0) for node in nodes),
            node_gpus=max((node.get("GPU", 0.0) for node in nodes), default=0.0),
            memory_gib=max((node.get("memory", 0.0) for node in nodes), default=0.0) / 2**30,
        )

    def close(self) -> None:
        """See `Backend.close`; ends a cluster that was started here."""
        self._heart.stop()
        if self._heart.is_lost:
            return  # each call would wait for a cluster that is gone
        for order in list(self._running.values()):
            self.cancel(order.entry.name)
        if self._owns:
            ray.shutdown()

    def _end_own_actor(self, order: Order) -> None:
        actor = self._actors.pop(order.token, None)
        if actor is not None:
            ray.kill(actor)


class _Heart:
    """Knows whether the head of the cluster still answers.

    Ray itself waits for a lost head for a minute and then ends the whole process without a word to Python. A thread
    asks the head's port every other second instead, so that the driver can say what happened and how to go on.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._over = threading.Event()
        self.is_lost = False
        self._thread = threading.Thread(target=self._watch, name="ray-head", daemon=True)
        self._thread.start()

    def check(self, now: bool = False) -> None:
        """Raises if the head is gone.

        Args:
            now: Ask it here, where something else went wrong already.

        Raises:
            ClusterLost: If it does not answer.
        """
        if now and not self._answers():
            self.is_lost = True
        if self.is_lost:
            raise ClusterLost(f"The Ray cluster at {self._address} is gone.", f"cluster.address={self._address}", "")

    def stop(self) -> None:
        """Ends the watch."""
        self._over.set()

    def _watch(self) -> None:
        since: float | None = None
        while not self._over.wait(WATCH_EVERY_S):
            if self._answers():
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since >= LOST_AFTER_S:
                self.is_lost = True
                return

    def _answers(self) -> bool:
        try:
            _knock(self._address)
        except OSError:
            return False
        return True


def actor_name(order: Order) -> str:
    """Name of the actor of a detached attempt; ends in its token."""
    return f"step:{order.run_folder.name}:{order.entry.name}:{order.token}"


def end_actor(name: str) -> bool:
    """Ends an actor by force and gives back what it had reserved; False if it is not there."""
    try:
        actor = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    ray.kill(actor)
    free_groups(name.rpartition(":")[2])
    return True


def actors_of(run_id: str) -> list[str]:
    """Names of the detached actors that work for a run on the cluster this process is connected to."""
    found = ray.util.list_named_actors(all_namespaces=True)
    names = [str(record["name"]) for record in found if record["namespace"] == NAMESPACE]
    return [name for name in names if name.startswith(f"step:{run_id}:")]


def connect(config: ClusterConfig) -> None:
    """Starts Ray on this machine, or joins a running cluster.

    Raises:
        MachineError: If the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints what its raylets report on our stdout whatever `log_to_driver` says, into tables and JSON lines.
    ray._private.worker.print_to_stdstream = _log_message
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if config.kind == "local":
        start(config, common)
        return
    try:
        _knock(config.address)
        ray.init(address=config.address, **common)
    except (OSError, ValueError, RuntimeError, gone.RayError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MachineError(
            f"No Ray cluster can be joined at {config.address}: {reason}",
            f"cluster.address={config.address}",
            "start one with `ray start --head`, correct cluster.address or its token, or use cluster=local",
        ) from error


def _knock(address: str) -> None:
    """Opens a connection to `host:port` and closes it: Ray itself would try for minutes.

    Raises:
        OSError: If nobody listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def start(config: ClusterConfig, common: dict[str, Any]) -> None:
    """Starts Ray on this machine, as small as it goes: no dashboard, little shared memory.

    Raises:
        MachineError: If it does not come up.
    """
    try:
        ray.init(
            address="local",
            num_cpus=config.num_cpus or usable_cpus(),
            num_gpus=config.num_gpus if config.num_gpus >= 0 else None,
            include_dashboard=False,
            object_store_memory=config.object_store_mib * 2**20,
            **common,
        )
    except (RuntimeError, ConnectionError, TimeoutError, ValueError) as error:
        raise MachineError(
            f"Ray did not start: {str(error).strip().splitlines()[0]}",
            "logs under /tmp/ray/session_latest/logs",
            "free memory and disk space, or use cluster=inprocess",
        ) from error


def _log_message(data: dict[str, Any], ignore_prefix: bool) -> None:
    for line in data["lines"]:
        logging.getLogger(__name__).info("%s: %s", data["pid"], line)


def task_options(resources: Resources) -> dict[str, Any]:
    """Ray's options for the task of a step."""
    own = resources.ranks <= 1
    options: dict[str, Any] = {
        "num_cpus": resources.cpus if own else 0,
        "num_gpus": resources.gpus if own else 0,
    }
    if resources.memory_gib:
        options["memory"] = int(resources.memory_gib * 2**30)
    return options


def _run_remotely(order: Order) -> Outcome:
    return run_step(order, ray_maker)


def _result(reference: Any, order: Order) -> Outcome | Lost:  # noqa: ANN401  (Ray has no type for it)
    try:
        outcome: Outcome | None = ray.get(reference)
    except gone.RayError as error:
        return _lost(error, order)
    return Lost("crash", "its order never arrived") if outcome is None else outcome


def _lost(error: Exception, order: Order) -> Outcome | Lost:
    text = str(error).strip().splitlines()
    for kind, failure_class in _LOSSES:
        if isinstance(error, kind):
            worded = [known for words, known in _WORDS if words in str(error)]
            preempted = getattr(error, "preempted", False)
            return Lost("preempted" if preempted else [*worded, failure_class][0], text[0] if text else "")
    sentence = StepError(
        f"Step {order.entry.name} did not start: {text[-1] if text else type(error).__name__}",
        f"step {order.entry.name}",
        "check that every node has this code and its packages",
    )
    return Outcome("failed", failure=Failure.of(sentence))
