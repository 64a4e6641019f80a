"""All that reaches a step from outside: `Context`, `Rank`, and the in-process implementation of both.

A step is a plain function `step(ctx, config, **inputs) -> Metrics`. It reads its inputs from paths, writes all it makes
under `ctx.output`, keeps what must survive a retry under `ctx.scratch`, and returns its final metrics. The Ray
implementation lives with the engine; both give the same results for any number of workers.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from components.channel import Channel
from components.errors import Preempted
from components.publish import publish_json

T = TypeVar("T")
R = TypeVar("R")

Metrics: TypeAlias = dict[str, float]
Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True)
class Rank:
    """One process of a `launch`, inside its process group (gloo on CPU, NCCL on CUDA).

    Attributes:
        rank: Number of this process, 0 to world_size - 1.
        world_size: Number of processes in the group.
        local_rank: Number of this process on its own machine.
        device: Torch device name, such as "cpu" or "cuda:0".
        channel: Where it speaks; by convention only rank 0 logs.
        folder: Where its launcher looks for the reason if it ends; None where nobody does.
    """

    rank: int
    world_size: int
    local_rank: int
    device: str
    channel: Channel
    folder: Path | None = None


RankFunction: TypeAlias = Callable[[Rank], Json]


class Context(Protocol):
    """What a step is given. Nothing else reaches it: no globals, no environment."""

    @property
    def output(self) -> Path:
        """Folder that becomes the artifact."""

    @property
    def scratch(self) -> Path:
        """Folder that survives retries and later runs of the same key, and is never published."""

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Calls `fn` on every item, in parallel where there is room; results in the order of the items.

        `fn` must be picklable and repeatable: an item whose process dies is tried again.

        Raises:
            Preempted: If the run is asked to stop; looked at between items.
        """

    def launch(self, fn: RankFunction, workers: int, allowed: Sequence[int] = ()) -> Json:
        """Runs `fn` once per rank in its own process with a process group; returns what rank 0 returned.

        `fn` must be picklable (a module-level function or a `functools.partial` of one) and return JSON. How many ranks
        there are is what `Rank.world_size` says: where machines of a cluster are missing, `fn` is started on the most
        that fit of the numbers in `allowed`; without any it waits for all.
        """

    def device(self) -> str:
        """What ranks of `launch` compute on: "cuda" or "cpu"."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Appends metrics to the step's journal."""

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """Tells how far the step is."""

    def text(self, name: str, text: str, step: int) -> None:
        """Keeps a piece of text worth reading."""

    def should_stop(self) -> bool:
        """True once the run was asked to stop."""

    def seed(self, name: str) -> int:
        """A 63-bit seed that depends on the step, its configured seed and `name` alone."""


def derive_seed(*parts: object) -> int:
    """A 63-bit seed out of the seed tree: the hash of the path of names that leads to it."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class LocalContext:
    """The in-process context: `map` is a loop, `launch` spawns ranks on this machine.

    Attributes:
        step: Name of the step, the root of its seeds.
        output: See `Context`.
        scratch: See `Context`.
        channel: The step's channel.
        base_seed: The `seed` of the step's config (0 where it has none).
    """

    step: str
    output: Path
    scratch: Path
    channel: Channel
    base_seed: int = 0

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """See `Context.map`."""
        results = []
        for item in items:
            if self.should_stop():
                raise Preempted(f"Step {self.step} was asked to stop.", f"step {self.step}", "run again to continue")
            results.append(fn(item))
        return results

    def launch(self, fn: RankFunction, workers: int, allowed: Sequence[int] = ()) -> Json:
        """See `Context.launch`. One worker runs in this process, several in spawned ones; none is ever missing."""
        from components.launching import launch_local

        return launch_local(fn, workers, self.channel, self.scratch)

    def device(self) -> str:
        """See `Context.device`."""
        from components.launching import device_of

        return device_of(0).partition(":")[0]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See `Context.log`."""
        self.channel.log(metrics, step)

    def progress(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """See `Context.progress`."""
        self.channel.progress(done, total, unit, note)

    def text(self, name: str, text: str, step: int) -> None:
        """See `Context.text`."""
        self.channel.text(name, text, step)

    def should_stop(self) -> bool:
        """See `Context.should_stop`."""
        return self.channel.should_stop()

    def seed(self, name: str) -> int:
        """See `Context.seed`."""
        return derive_seed(self.step, self.base_seed, name)


def local_context(step: str, folder: Path, base_seed: int = 0) -> LocalContext:
    """Makes a context under one folder (`output/`, `scratch/`, `journal.jsonl`): for tests and notebooks."""
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return LocalContext(step, folder / "output", folder / "scratch", Channel(folder), base_seed)


def free_port() -> int:
    """A TCP port of this machine that was free on all its addresses a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def write_result(folder: Path, result: Json) -> None:
    """Rank 0 leaves its result where the launcher finds it (the process itself may end in another machine)."""
    publish_json(folder / "result.json", {"result": result})


def read_result(folder: Path) -> Json:
    """Reads what `write_result` left."""
    value: dict[str, Json] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return value["result"]
