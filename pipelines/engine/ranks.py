"""A group of ranks on the cluster: one actor per rank, placed all together or not at all.

Built on placement groups and actors rather than Ray Train, after measuring both on two cores. Ray Train 2.60 brings a
controller, a cleaner, a synchroniser, a dataset manager and a coordinator for each group, each a process that imports
for a second: 17 s of CPU and 1.2 GB for two ranks that do nothing, where this takes 4 s and nothing beside the ranks.
Its cleaner needs the dashboard, so that on a cluster without one a step that is killed leaves its cores reserved until
the run ends, and the next attempt waits for them for ever; and a group that waits for room cannot be told to stop.
Here the placement group has a name the driver can free it by, and the wait looks at `should_stop`.

Ranks on one machine are numbered by their GPUs and see all of the group's GPUs there, as torch and DeepSpeed expect.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from components.channel import Channel
from components.context import RankFunction, free_port
from components.errors import Preempted
from components.launching import NodeLost, NoRoom, RankLost, Seat, run_rank
from pipelines.engine.lock import hold_shared
from pipelines.engine.redirect import output_to
from pipelines.engine.step import Resources

WAIT_S = 0.5
SAY_EVERY_S = 60.0
NODE_WORDS = ("node died", "node was terminated", "node has died")
"""What Ray says of an actor's death when its machine went away."""
NODE_NEWS_S = 20.0
"""How long the loss of a machine takes to be known: its processes are missed at once, it after some silent checks."""
LAST_WORDS_S = 2.0
"""How long the peers of a failed rank get to fail too: the one that died tells more than those that lost it."""


@dataclass(frozen=True)
class Job:
    """What a group does.

    Attributes:
        fn: The rank function.
        channel: The step's channel.
        folder: Where result and failure are left.
        lock: Held, shared, by every rank that may still write into the step's scratch.
    """

    fn: RankFunction
    channel: Channel
    folder: Path
    lock: Path


@dataclass(frozen=True)
class Spot:
    """Where the process of a rank runs: its node, that node's address, its GPUs, and a port that is free there."""

    node: str
    address: str
    gpus: tuple[str, ...]
    port: int


class RankProcess:
    """The actor of one rank."""

    def spot(self) -> Spot:
        """Tells where it runs."""
        context = ray.get_runtime_context()
        gpus = tuple(str(gpu) for gpu in context.get_accelerator_ids().get("GPU", []))
        return Spot(context.get_node_id(), ray.util.get_node_ip_address(), gpus, free_port())

    def run(self, job: Job, seat: Seat, visible_gpus: Sequence[str]) -> None:
        """Does the job on this rank."""
        if visible_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible_gpus)
        device = f"cuda:{seat.local_rank}" if visible_gpus else "cpu"
        with hold_shared(job.lock), output_to(job.channel.folder / "log.txt"):
            run_rank(job.fn, seat, device, job.channel, job.folder)


def run_group(
    job: Job,
    workers: int,
    resources: Resources,
    name: str,
    placed: Callable[[], None],
    pending_timeout_s: float = 0.0,
    node_wait_s: float = 0.0,
) -> None:
    """Runs a job on every rank of a new group and waits for all.

    Args:
        job: What to do.
        workers: Number of ranks.
        resources: What each rank gets.
        name: Unique name of the group's reservation, see `free_groups`.
        placed: Called once all ranks have their place.
        pending_timeout_s: Seconds that the ranks may wait for room; 0 waits for ever.
        node_wait_s: Seconds that they wait for machines which are not there: cores in use will be free, lost ones not.

    Raises:
        NoRoom: If they waited longer.
        NodeLost: If machines went away while they waited, or the machine of a rank did.
        Preempted: If the run is asked to stop before the ranks have room.
        RankLost: If the process of a rank died.
        RayTaskError: If a rank raised.
    """
    bundle = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    group = placement_group([bundle] * workers, strategy="PACK", name=name)
    actors: list[Any] = []
    try:
        _wait_for_room(group, job.channel, pending_timeout_s, _Missing(workers, resources, node_wait_s))
        actors += [_start(group, index, resources) for index in range(workers)]
        spots: list[Spot] = ray.get([actor.spot.remote() for actor in actors])
        placed()
        order = numbered(spots)
        seats = seated([spots[index] for index in order])
        _wait_for_all(
            [actors[index].run.remote(job, seat, gpus) for index, (seat, gpus) in zip(order, seats, strict=True)],
            {spot.node for spot in spots},
        )
    finally:
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def free_groups(prefix: str) -> None:
    """Gives back the reservations of an attempt whose process is gone: nobody else would before the run ends.

    Args:
        prefix: Beginning of their names.
    """
    for record in ray.util.placement_group_table().values():
        if record["name"].startswith(prefix) and record["state"] != "REMOVED":
            remove_placement_group(ray.util.get_placement_group(record["name"]))


def num_places(nodes: Sequence[Mapping[str, Any]], resources: Resources) -> int:
    """How many ranks the machines of a cluster hold when nothing else runs on them.

    Args:
        nodes: What `ray.nodes()` tells.
        resources: What each rank gets.
    """
    return sum(_places(node["Resources"], resources) for node in nodes if node["Alive"])


def _places(offered: Mapping[str, float], resources: Resources) -> int:
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    return int(min(offered.get(what, 0.0) // each for what, each in wanted.items() if each))


class _Missing:
    """Notices that a waiting group asks for more than all machines have, for longer than they are waited for."""

    def __init__(self, workers: int, resources: Resources, wait_s: float) -> None:
        self._workers, self._resources, self._wait_s = workers, resources, wait_s
        self._since: float | None = None

    def check(self, now: float) -> None:
        """Looks at the cluster.

        Raises:
            NodeLost: If machines have been missing for too long.
        """
        places = num_places(ray.nodes(), self._resources)
        if places >= self._workers:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= self._wait_s:
            raise NodeLost(f"machines went away: {self._workers} ranks wait, and there is room for {places}")


def numbered(spots: Sequence[Spot]) -> list[int]:
    """Indices of the processes in the order of their ranks: node by node, on a node by GPU."""
    nodes = list(dict.fromkeys(spot.node for spot in spots))
    gpus = [[(len(gpu), gpu) for gpu in spot.gpus] for spot in spots]  # "9" before "10"
    return sorted(range(len(spots)), key=lambda index: (nodes.index(spots[index].node), gpus[index], index))


def seated(spots: Sequence[Spot]) -> list[tuple[Seat, tuple[str, ...]]]:
    """Seat and visible GPUs of each rank, given where the ranks run in their order."""
    first = spots[0]
    sizes = Counter(spot.node for spot in spots)
    alone = len(sizes) == 1
    address = "127.0.0.1" if alone else first.address
    seen: Counter[str] = Counter()
    seats = []
    for rank, spot in enumerate(spots):
        gpus = tuple(gpu for other in spots if other.node == spot.node for gpu in other.gpus)
        own = "" if alone else spot.address
        seats.append((Seat(rank, len(spots), seen[spot.node], sizes[spot.node], address, first.port, own), gpus))
        seen[spot.node] += 1
    return seats


def _wait_for_room(group: PlacementGroup, channel: Channel, timeout_s: float, missing: _Missing) -> None:
    began = said = time.monotonic()
    while not group.wait(timeout_seconds=WAIT_S):
        now = time.monotonic()
        if 0 < timeout_s < now - began:
            raise NoRoom(
                f"Its ranks waited {timeout_s:g} s for room on the cluster.",
                f"cluster.pending_timeout_s={timeout_s:g}",
                "wait for other work to end, raise the limit, or lower the ranks",
            )
        if now - said >= SAY_EVERY_S:  # who waits for room is no sleeper
            print(f"waiting for room since {now - began:.0f} s", flush=True)
            said = now
        missing.check(now)
        if channel.should_stop():
            raise Preempted("Stopped before its ranks had room.", str(channel.folder), "run again to continue")


def _start(group: PlacementGroup, index: int, resources: Resources) -> Any:  # noqa: ANN401  (Ray has no type for it)
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_restarts": 0, "scheduling_strategy": place}
    return ray.remote(RankProcess).options(**options).remote()


def _wait_for_all(running: list[Any], nodes: Set[str]) -> None:
    """Waits for every rank; if some fail, raises the loss of a process before what its peers raised about it."""
    errors: list[Exception] = []
    while running:
        ready, running = ray.wait(running, num_returns=1, timeout=LAST_WORDS_S if errors else None)
        if not ready:
            break
        try:
            ray.get(ready[0])
        except RayError as error:
            errors.append(error)
    lost = [error for error in errors if not isinstance(error, RayTaskError)]
    if lost:
        raise _loss(lost, nodes) from lost[0]
    if errors:
        raise errors[0]


def _loss(lost: Sequence[Exception], nodes: Set[str]) -> RankLost:
    """What became of the ranks whose process is gone: the loss of a machine explains that of its processes."""
    for error in lost:
        if getattr(error, "preempted", False) or any(words in str(error) for words in NODE_WORDS):
            return NodeLost(f"the machine of a rank is gone: {_first_line(error)}")
    deadline = time.monotonic() + (NODE_NEWS_S if len(nodes) > 1 else 0.0)
    while time.monotonic() < deadline:
        gone = nodes - {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if gone:
            return NodeLost(f"the machine of a rank is gone: node {min(gone)}")
        time.sleep(WAIT_S)
    return RankLost(f"the process of a rank is gone: {_first_line(lost[0])}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
