"""Where steps run: this process, a Ray cluster started here, or one that is already there.

`Backend` is all the driver knows of it. The in-process one runs steps one after the other with neither Ray nor extra
processes, for tests and debuggers; the Ray one is in `remote`. Whether the steps of a plan can ever be placed is
checked before the first of them starts, where possible before Ray does.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.configuring import require, require_choice
from components.errors import MachineError
from pipelines.engine.plan import PlanEntry
from pipelines.engine.retry import FailureClass
from pipelines.engine.run_step import Order, Outcome, local_maker, run_step
from pipelines.engine.step import Resources

_TIMEOUTS = ("pending_timeout_s", "node_wait_s", "stall_timeout_s", "timeout_s")


@dataclass(frozen=True)
class ClusterConfig:
    """Where a run takes place. Never part of any identity.

    Attributes:
        kind: "local" starts Ray on this machine, "ray" joins a running cluster, "inprocess" uses no Ray at all.
        address: Address of the running cluster; "auto" finds it, and is right inside a submitted job.
        dashboard: Address of the cluster's dashboard, for `headwater submit`.
        python: Interpreter on the cluster's machines, for `headwater submit`.
        num_cpus: Cores to offer to steps under "local"; 0 takes all that this process may use.
        num_gpus: GPUs to offer under "local"; -1 takes all.
        rank_gpus: GPUs of each training rank; 0 trains on CPUs.
        object_store_mib: Shared memory of Ray's object store under "local". Steps pass files, so little is enough.
        grace_s: Seconds that running steps get to save their work when the run is asked to stop.
        max_retries: Attempts after the first for each class of failure that is worth one.
        max_preemptions: As max_retries, for nodes that were taken away or lost.
        on_failure: "finish-running" lets running steps finish and starts no more, "fail-fast" asks them to stop,
            "keep-going" runs all that does not need the failed step.
        pending_timeout_s: Seconds a step may wait for room on the cluster; 0 waits for ever.
        node_wait_s: Seconds that ranks wait for machines which the cluster has lost, or not yet got, before they start
            with fewer (where `training.min_ranks` allows it) or the step fails.
        stall_timeout_s: Seconds without a line in a running step's journal or log after which it is started again;
            0 waits for ever.
        timeout_s: Seconds a step may run in all; 0 sets no limit.
        lease_s: Seconds without a heartbeat after which another process may take over a step.
        verify_inputs: Compare the hashes of input files before a step reads them, not only their sizes.
        price_cpu_hour: Price of a core for an hour, for the cost in a plan; 0 shows none.
        price_gpu_hour: Price of a GPU for an hour.
    """

    kind: str = "local"
    address: str = "auto"
    dashboard: str = "http://127.0.0.1:8265"
    python: str = "python"
    num_cpus: int = 0
    num_gpus: int = -1
    rank_gpus: float = 0.0
    object_store_mib: int = 256
    grace_s: float = 60.0
    max_retries: int = 2
    max_preemptions: int = 100
    on_failure: str = "finish-running"
    pending_timeout_s: float = 0.0
    node_wait_s: float = 30.0
    stall_timeout_s: float = 3600.0
    timeout_s: float = 0.0
    lease_s: float = 45.0
    verify_inputs: bool = False
    price_cpu_hour: float = 0.0
    price_gpu_hour: float = 0.0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        require_choice("cluster.kind", self.kind, ("local", "ray", "inprocess"))
        require(self.num_cpus >= 0, "cluster.num_cpus", self.num_cpus, "must be 0 or more", "cluster.num_cpus=0")
        require(
            self.object_store_mib >= 80,
            "cluster.object_store_mib",
            self.object_store_mib,
            "is below the 80 MiB Ray needs",
            "cluster.object_store_mib=256",
        )
        require_choice("cluster.on_failure", self.on_failure, ("finish-running", "fail-fast", "keep-going"))
        require(self.lease_s >= 1, "cluster.lease_s", self.lease_s, "must be 1 or more", "cluster.lease_s=45")
        for name in ("grace_s", "max_retries", "max_preemptions", *_TIMEOUTS, "price_cpu_hour", "price_gpu_hour"):
            value = getattr(self, name)
            require(value >= 0, f"cluster.{name}", value, "must be 0 or more", f"cluster.{name}=0")


@dataclass(frozen=True)
class Capacity:
    """What a cluster has: in all, and on its largest node. `gpus` is None while that is not known."""

    cpus: float
    node_cpus: float
    gpus: float | None = None
    node_gpus: float | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class Lost:
    """An attempt that ended without an outcome: its process, its node or its memory is gone."""

    failure_class: FailureClass
    detail: str


class ClusterLost(MachineError):  # noqa: N818  (a state, not a fault)
    """The cluster went away under the run."""


class Backend(Protocol):
    """Runs orders. Used from one thread."""

    @property
    def outlives_driver(self) -> bool:
        """True if detached steps go on when the driver is gone."""

    def submit(self, order: Order) -> str:
        """Starts an attempt as soon as there is room for it; returns the name of the actor of a detached one."""

    def attach(self, order: Order, actor: str) -> bool:
        """Takes up a detached attempt that an earlier driver started; False if it is not there any more."""

    def detach(self) -> list[Order]:
        """Leaves the detached attempts to themselves: they are not reported any more. Returns them."""

    def wait(self, timeout_s: float) -> list[tuple[Order, Outcome | Lost]]:
        """Attempts that ended since the last call; waits for one at most this long.

        Raises:
            ClusterLost: If the cluster itself is gone.
        """

    def end(self, actor: str) -> None:
        """Ends a detached attempt of an earlier driver by force, if it is still there."""

    def cancel(self, step: str) -> None:
        """Ends the attempt of a step by force; it is not reported again."""

    def close(self) -> None:
        """Gives everything back."""


class InProcessBackend:
    """Runs each order in this process, in the order of submission, when it is waited for."""

    outlives_driver = False

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()

    def attach(self, order: Order, actor: str) -> bool:
        """See `Backend.attach`; nothing outlives a process inside itself."""
        return False

    def detach(self) -> list[Order]:
        """See `Backend.detach`."""
        return []

    def end(self, actor: str) -> None:
        """See `Backend.end`."""

    def submit(self, order: Order) -> str:
        """See `Backend.submit`."""
        self._orders.append(order)
        return ""

    def wait(self, timeout_s: float) -> list[tuple[Order, Outcome | Lost]]:
        """See `Backend.wait`; returns when one attempt is over, however long that takes."""
        if not self._orders:
            return []
        order = self._orders.popleft()
        return [(order, run_step(order, local_maker))]

    def cancel(self, step: str) -> None:
        """See `Backend.cancel`; only what has not begun can be cancelled."""
        self._orders = deque(order for order in self._orders if order.entry.name != step)

    def close(self) -> None:
        """See `Backend.close`."""
        self._orders.clear()


def open_backend(config: ClusterConfig, entries: Sequence[PlanEntry]) -> Backend:
    """Makes the backend for a plan's steps, after checking that all of them can be placed.

    Raises:
        MachineError: If a step asks for more than the cluster has, or there is no cluster.
    """
    if config.kind == "inprocess":
        return InProcessBackend()
    if config.kind == "local":
        cpus = float(config.num_cpus or usable_cpus())
        check_room(entries, Capacity(cpus, cpus))
    from pipelines.engine.remote import RayBackend

    backend = RayBackend(config)
    try:
        check_room(entries, backend.capacity())
    except MachineError:
        backend.close()
        raise
    return backend


def check_room(entries: Sequence[PlanEntry], capacity: Capacity) -> None:
    """Refuses steps that no amount of waiting would start.

    Raises:
        MachineError: Naming the step, what it asks for, what there is, and the settings to change.
    """
    for entry in entries:
        wanted = entry.step.resources
        problem = _shortage(wanted, capacity)
        if problem:
            least = "at least " if wanted.fewest < wanted.ranks else ""
            ranks = f"{least}{wanted.fewest} ranks of " if wanted.ranks > 1 else ""
            asked = f"{ranks}{wanted.cpus:g} cores" + (f" and {wanted.gpus:g} GPUs" if wanted.gpus else "")
            raise MachineError(
                f"Step {entry.name} needs {asked}, but the cluster has {problem}.",
                f"step {entry.name}",
                f"lower {entry.name}'s ranks or resources, choose another cluster=..., or, to share cores, "
                f"set cluster.num_cpus={math.ceil(wanted.cpus * wanted.fewest)}",
            )


def _shortage(wanted: Resources, capacity: Capacity) -> str:
    """What there is too little of, in words; empty if the request fits."""
    if wanted.cpus * wanted.fewest > capacity.cpus:
        return f"{capacity.cpus:g} cores"
    if wanted.cpus > capacity.node_cpus:
        return f"{capacity.node_cpus:g} cores on its largest node"
    if capacity.gpus is not None and wanted.gpus * wanted.fewest > capacity.gpus:
        return f"{capacity.gpus:g} GPUs"
    if capacity.node_gpus is not None and wanted.gpus > capacity.node_gpus:
        return f"{capacity.node_gpus:g} GPUs on its largest node"
    if wanted.memory_gib and capacity.memory_gib is not None and wanted.memory_gib > capacity.memory_gib:
        return f"{capacity.memory_gib:.1f} GiB of memory to reserve, {wanted.memory_gib:g} are asked for"
    return ""


def usable_cpus() -> int:
    """Cores this process may use: its affinity, within the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, math.ceil(int(limit) / int(period)))
    return max(1, cores)
