"""Steps as Ray tasks: the only place, with `ray_context`, that speaks to Ray.

Every attempt is one task without Ray's own retries: the driver decides about those, with a delay and by class of
failure. A step that launches ranks holds no core itself, since its ranks are placed as a group of their own while it
waits. Truth stays in the store, so nothing is lost with the cluster.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import ray
import ray.exceptions as gone

from components.errors import MachineError, StepError
from pipelines.engine.cluster import Capacity, ClusterConfig, Lost, usable_cpus
from pipelines.engine.events import Failure
from pipelines.engine.ranks import free_groups
from pipelines.engine.ray_context import ray_maker
from pipelines.engine.retry import FailureClass
from pipelines.engine.run_step import Order, Outcome, run_step
from pipelines.engine.step import Resources

NAMESPACE = "headwater"
KNOCK_S = 5.0

_LOSSES: tuple[tuple[type[Exception], FailureClass], ...] = (
    (gone.OutOfMemoryError, "out_of_memory"),
    (gone.NodeDiedError, "node_lost"),
    (gone.ObjectLostError, "node_lost"),
    (gone.LocalRayletDiedError, "node_lost"),
    (gone.WorkerCrashedError, "crash"),
    (gone.RayActorError, "crash"),
)


class RayBackend:
    """Runs orders as tasks of the cluster this process is connected to, or connects to one.

    Args:
        config: Which cluster.

    Raises:
        MachineError: If there is no such cluster.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._owns = not ray.is_initialized()
        if self._owns:
            connect(config)
        self._task = ray.remote(_run_remotely)
        self._running: dict[Any, Order] = {}

    def submit(self, order: Order) -> None:
        """See `Backend.submit`."""
        options = task_options(order.entry.step.resources)
        reference = self._task.options(name=f"step:{order.entry.name}", **options).remote(order)
        self._running[reference] = order

    def wait(self, timeout_s: float) -> list[tuple[Order, Outcome | Lost]]:
        """See `Backend.wait`."""
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        ended = []
        for reference in ready:
            order = self._running.pop(reference)
            outcome = _result(reference, order)
            if isinstance(outcome, Lost):
                free_groups(order.token)
            ended.append((order, outcome))
        return ended

    def cancel(self, step: str) -> None:
        """See `Backend.cancel`."""
        for reference, order in list(self._running.items()):
            if order.entry.name == step:
                ray.cancel(reference, force=True)
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
        for order in list(self._running.values()):
            self.cancel(order.entry.name)
        if self._owns:
            ray.shutdown()


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
        "max_retries": 0,
    }
    if resources.memory_gib:
        options["memory"] = int(resources.memory_gib * 2**30)
    return options


def _run_remotely(order: Order) -> Outcome:
    return run_step(order, ray_maker)


def _result(reference: Any, order: Order) -> Outcome | Lost:  # noqa: ANN401  (Ray has no type for it)
    try:
        outcome: Outcome = ray.get(reference)
    except gone.RayError as error:
        return _lost(error, order)
    return outcome


def _lost(error: Exception, order: Order) -> Outcome | Lost:
    for kind, failure_class in _LOSSES:
        if isinstance(error, kind):
            return Lost(failure_class, str(error).strip().splitlines()[0])
    text = str(error).strip().splitlines()
    sentence = StepError(
        f"Step {order.entry.name} did not start: {text[-1] if text else type(error).__name__}",
        f"step {order.entry.name}",
        "check that every node has this code and its packages",
    )
    return Outcome("failed", failure=Failure.of(sentence))
