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
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from components.channel import Channel
from components.context import Json, LocalContext, RankFunction, read_result
from components.errors import HeadwaterError, MachineError, Preempted
from components.launching import RankHung, RankLost, read_failure
from pipelines.engine.lock import try_lock
from pipelines.engine.ranks import Job, run_group
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

    def launch(self, fn: RankFunction, workers: int) -> Json:
        """See `Context.launch`. One worker runs in the step's own process, several are placed on the cluster."""
        if workers == 1:
            return super().launch(fn, 1)
        _check_group(self.step, workers, self.resources)
        _wait_for_old_ranks(self.scratch)
        self.launches.append(len(self.launches) + 1)
        folder = Path(tempfile.mkdtemp(prefix="launch-", dir=self.scratch))
        name = f"{self.order.token if self.order else uuid.uuid4().hex}:{self.launches[-1]}"
        self._record("placing", note=f"for {workers} x {self.resources.cpus:g} free cores")
        try:
            job = Job(fn, self.channel, folder, self.scratch / RANKS_LOCK)
            limit_s = self.order.pending_timeout_s if self.order else 0.0
            run_group(job, workers, self.resources, name, lambda: self._record("placed"), limit_s)
            return read_result(folder)
        except (RankLost, RayTaskError) as error:
            failure = read_failure(folder)
            # Peers of a lost rank only lost their connection: what they say counts if it is an error of ours.
            if failure is None or (isinstance(error, RankLost) and not isinstance(failure, HeadwaterError | RankHung)):
                raise
            raise failure from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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


def _check_group(step: str, workers: int, resources: Resources) -> None:
    """Refuses a group that could never be placed; Ray would wait for ever."""
    for what, each in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        have = ray.cluster_resources().get(what, 0.0)
        if workers * each > have:
            raise MachineError(
                f"Step {step} launches {workers} ranks of {each:g} {what} each, but the cluster has {have:g}.",
                f"step {step}",
                f"lower {step}'s ranks, or choose a larger cluster",
            )


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
