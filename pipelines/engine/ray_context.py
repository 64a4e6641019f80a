"""The context of a step on a Ray cluster: `map` as nested tasks, `launch` as a group of actors.

Both give what the in-process context gives. A step that waits in `map` has lent its core to the tasks it waits for, so
one core is enough for any depth. `launch` places all ranks at once or none, so that two steps never hold half a group
each; results and errors come back through files, whole, as they do from local ranks.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from components.channel import Channel
from components.context import Json, LocalContext, RankFunction, read_result
from components.errors import HeadwaterError, MachineError, Preempted
from components.launching import RankHung, RankLost, read_failure
from pipelines.engine.lock import try_lock
from pipelines.engine.ranks import WAIT_S, Job, num_places, run_group
from pipelines.engine.redirect import output_to
from pipelines.engine.run_step import Order
from pipelines.engine.step import Resources

T = TypeVar("T")
R = TypeVar("R")

CHUNKS_PER_CORE = 8
"""Chunks a map is cut into for each core: few enough to cost little, enough to even out uneven items."""
MAP_RETRIES = 2
OLD_RANKS_DEADLINE_S = 60.0
RANKS_LOCK = ".ranks.lock"


@dataclass(frozen=True)
class RayContext(LocalContext):
    """What a step is given on a cluster; attributes beyond those of `LocalContext`.

    Attributes:
        resources: What the step's ranks get each.
        order: The attempt, for its log and its events; None outside a run.
        launches: Counts the launches of this attempt.
    """

    resources: Resources = field(default_factory=Resources)
    order: Order | None = None
    launches: list[int] = field(default_factory=list, compare=False)

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """See `Context.map`."""
        if len(items) <= 1:
            return super().map(fn, items)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        size = -(-len(items) // (CHUNKS_PER_CORE * cores))
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        function = ray.put(fn)
        task = ray.remote(_run_chunk).options(num_cpus=1, max_retries=MAP_RETRIES, name=f"map:{self.step}")
        results: dict[int, list[R]] = {}
        running: dict[Any, int] = {}
        while len(results) < len(chunks):
            self._check_stop(running)
            for index in range(len(results) + len(running), min(len(chunks), len(results) + 2 * cores)):
                running[task.remote(function, chunks[index], self._log)] = index
            ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            for reference in ready:
                results[running.pop(reference)] = _unwrapped(reference, running)
        return [result for index in range(len(chunks)) for result in results[index]]

    def launch(self, fn: RankFunction, workers: int, allowed: Sequence[int] = ()) -> Json:
        """See `Context.launch`. One worker runs in the step's own process, several are placed on the cluster."""
        if workers == 1:
            return super().launch(fn, 1)
        wished, workers = workers, self._most(workers, allowed)
        _wait_for_old_ranks(self.scratch)
        self.launches.append(len(self.launches) + 1)
        folder = Path(tempfile.mkdtemp(prefix="launch-", dir=self.scratch))
        name = f"{self.order.token if self.order else uuid.uuid4().hex}:{self.launches[-1]}"
        fewer = "" if workers == wished else f"{workers} ranks instead of {wished}, machines are missing; "
        self._record("placing", note=f"{fewer}for {workers} x {self.resources.cpus:g} free cores")
        try:
            job = Job(fn, self.channel, folder, self.scratch / RANKS_LOCK)
            limit_s = self.order.pending_timeout_s if self.order else 0.0
            placed = partial(self._record, "placed")
            run_group(job, workers, self.resources, name, placed, limit_s, self._node_wait_s)
            return read_result(folder)
        except (RankLost, RayTaskError) as error:
            failure = read_failure(folder)
            # Peers of a lost rank only lost their connection: what they say counts if it is an error of ours.
            if failure is None or (isinstance(error, RankLost) and not isinstance(failure, HeadwaterError | RankHung)):
                raise
            raise failure from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def device(self) -> str:
        """See `Context.device`."""
        return "cuda" if self.resources.gpus else "cpu"

    def _most(self, wished: int, allowed: Sequence[int]) -> int:
        """The wished ranks; where machines are missing and stay away, the most that are allowed and fit.

        Only machines count, not what runs on them: a core in use will be free again.

        Raises:
            MachineError: If not even the fewest could ever be placed; Ray would wait for ever.
        """
        deadline = time.monotonic() + self._node_wait_s
        while (places := num_places(ray.nodes(), self.resources)) < wished and time.monotonic() < deadline:
            self._check_stop({})
            time.sleep(WAIT_S)
        fitting = [ranks for ranks in {wished, *allowed} if ranks <= min(wished, places)]
        if fitting:
            return max(fitting)
        each = f"{self.resources.cpus:g} CPU" + (f" and {self.resources.gpus:g} GPU" if self.resources.gpus else "")
        fewest = min({wished, *allowed})
        raise MachineError(
            f"Step {self.step} needs at least {fewest} ranks of {each} each, but the cluster has room for {places}.",
            f"step {self.step}",
            f"start the machines that are missing, lower {self.step}'s ranks or training.min_ranks",
        )

    @property
    def _node_wait_s(self) -> float:
        return self.order.node_wait_s if self.order else 0.0

    @property
    def _log(self) -> Path:
        return self.channel.folder / "log.txt"

    def _record(self, kind: str, **fields: Json) -> None:
        if self.order is not None:
            self.order.record(kind, launch=self.launches[-1], **fields)

    def _check_stop(self, running: dict[Any, int]) -> None:
        if self.should_stop():
            _cancel(running)
            raise Preempted(f"Step {self.step} was asked to stop.", f"step {self.step}", "run again to continue")


def ray_maker(order: Order, output: Path, scratch: Path) -> LocalContext:
    """The context of an attempt on the cluster."""
    step = order.entry.step
    seed = int(getattr(step.config, "seed", 0))
    return RayContext(step.name, output, scratch, Channel(order.folder), seed, step.resources, order)


def _run_chunk(fn: Callable[[T], R], items: Sequence[T], log: Path) -> list[R]:
    with output_to(log):
        return [fn(item) for item in items]


def _unwrapped(reference: Any, running: dict[Any, int]) -> Any:  # noqa: ANN401  (Ray has no type for it)
    """The result of a chunk, or the very error that an item raised, with the remote traceback behind it."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        _cancel(running)
        raise error.cause from error
    except Exception:
        _cancel(running)
        raise


def _cancel(running: dict[Any, int]) -> None:
    for reference in running:
        ray.cancel(reference, force=True)


def _wait_for_old_ranks(scratch: Path) -> None:
    """Ranks of an attempt that was killed die a moment after it; until then they may still write a checkpoint."""
    deadline = time.monotonic() + OLD_RANKS_DEADLINE_S
    while time.monotonic() < deadline:
        with try_lock(scratch / RANKS_LOCK) as free:
            if free:
                return
        time.sleep(0.1)
    raise MachineError(
        f"Ranks of an earlier attempt still run after {OLD_RANKS_DEADLINE_S:g} s.", str(scratch), "end them, run again"
    )
