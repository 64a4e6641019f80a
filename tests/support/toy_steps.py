"""Steps small enough to read at a glance, for tests of the engine. On `sys.path` of the tests and of Ray's workers."""

from __future__ import annotations

import functools
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from components.configuring import runtime
from components.context import Context, Json, Metrics, Rank
from components.errors import Preempted, StepError

VERSION = 1


@dataclass(frozen=True)
class Inner:
    """A nested config."""

    depth: int = 2
    workers: int = runtime(1)


@dataclass(frozen=True)
class ToyConfig:
    """One field of each kind."""

    text: str = "a"
    count: int = 3
    ratio: float = 0.5
    inner: Inner = field(default_factory=Inner)
    token: str = ""
    workers: int = runtime(1)
    seed: int = 17


def source(ctx: Context, config: ToyConfig) -> Metrics:
    """Writes its text `count` times."""
    (ctx.output / "part").mkdir()
    (ctx.output / "part" / "text.txt").write_text(config.text * config.count)
    ctx.progress(config.count, config.count, "letters")
    print("hello from the source")
    return {"letters": config.count}


def join(ctx: Context, config: ToyConfig, left: Path, right: Path | None = None) -> Metrics:
    """Joins the texts of its inputs."""
    texts = [(path / "part" / "text.txt").read_text() for path in (left, right) if path is not None]
    (ctx.output / "part").mkdir()
    (ctx.output / "part" / "text.txt").write_text(config.text.join(texts))
    return {"parts": len(texts)}


def read_file(ctx: Context, config: ToyConfig, document: Path) -> Metrics:
    """Copies an external file."""
    (ctx.output / "copy.txt").write_bytes(document.read_bytes())
    return {"bytes": document.stat().st_size}


def bad_data(ctx: Context, config: ToyConfig, left: Path | None = None) -> Metrics:
    """Refuses its data."""
    raise StepError("The data is bad.", "row 7", "bring better data")


def defect(ctx: Context, config: ToyConfig) -> Metrics:
    """Has a bug."""
    raise ZeroDivisionError("a bug of ours")


def full_disk(ctx: Context, config: ToyConfig) -> Metrics:
    """Writes to a device that is always full."""
    with open("/dev/full", "w") as file:
        file.write("x")
    return {}


def no_metrics(ctx: Context, config: ToyConfig) -> Metrics:
    """Forgets to return its metrics."""
    return None  # type: ignore[return-value]


def killed_once(ctx: Context, config: ToyConfig) -> Metrics:
    """Its process is killed in the first attempt, which leaves a trace in scratch."""
    mark = ctx.scratch / "tried"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (ctx.output / "done.txt").write_text("done")
    return {"tries": 2}


def killed_always(ctx: Context, config: ToyConfig) -> Metrics:
    """Its process is killed in every attempt."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def counting(ctx: Context, config: ToyConfig) -> Metrics:
    """Counts slowly, saves after each number, and stops when asked to."""
    path = ctx.scratch / "count"
    start = int(path.read_text()) if path.exists() else 0
    for number in range(start, config.count):
        if ctx.should_stop():
            raise Preempted("Stopped while counting.", "counting", "run again")
        time.sleep(0.02)
        path.write_text(str(number + 1))
        ctx.progress(number + 1, config.count, "numbers")
    (ctx.output / "count.txt").write_text(path.read_text())
    return {"started_at": start, "counted": config.count}


def waits_for(ctx: Context, config: ToyConfig) -> Metrics:
    """Waits until the file named by its config appears; tells that it began by another."""
    Path(f"{config.text}.begun").touch()
    while not Path(config.text).exists():
        if ctx.should_stop():
            raise Preempted("Stopped while waiting.", "waits_for", "run again")
        time.sleep(0.02)
    (ctx.output / "pid.txt").write_text(str(os.getpid()))
    return {"waited": 1}


def deaf(ctx: Context, config: ToyConfig) -> Metrics:
    """Never looks whether it should stop."""
    Path(f"{config.text}.begun").touch()
    time.sleep(600)
    return {}


def square(number: int) -> int:
    """The item function of `mapping`."""
    if number < 0:
        raise StepError("A negative number.", str(number), "take positive ones")
    print(f"squaring {number}")
    return number * number


def mapping(ctx: Context, config: ToyConfig) -> Metrics:
    """Squares numbers through `ctx.map`."""
    squares = ctx.map(square, list(range(config.count)))
    (ctx.output / "squares.txt").write_text("\n".join(map(str, squares)))
    return {"sum": sum(squares), "seed": ctx.seed("map") % 1000}


def rank_sum(rank: Rank, base: float) -> Json:
    """Adds up over the group."""
    import torch
    import torch.distributed as dist

    value = torch.tensor([base + rank.rank])
    dist.all_reduce(value)
    if rank.rank == 0:
        rank.channel.log({"sum": float(value)}, step=1)
    return {"sum": float(value), "world": rank.world_size, "device": rank.device}


def rank_fails(rank: Rank) -> Json:
    """Fails on rank 1 with a sentence; rank 0 waits for it in vain."""
    import torch
    import torch.distributed as dist

    if rank.rank == 1:
        raise StepError("Rank 1 has bad data.", "row 9", "mend row 9")
    dist.all_reduce(torch.zeros(1))
    return None


def rank_leaves(rank: Rank) -> Json:
    """Rank 1 ends without a word, rank 0 would go on for long."""
    if rank.rank == 1:
        os._exit(3)
    time.sleep(600)
    return None


def rank_killed_once(rank: Rank, mark: str) -> Json:
    """Kills rank 1 the first time."""
    import torch
    import torch.distributed as dist

    path = Path(mark)
    first = not path.exists()
    dist.barrier()
    if rank.rank == 1 and first:
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    value = torch.ones(1)
    dist.all_reduce(value)
    return float(value)


def launching(ctx: Context, config: ToyConfig) -> Metrics:
    """Adds up over two ranks."""
    result = ctx.launch(functools.partial(rank_sum, base=10.0), 2)
    assert isinstance(result, dict)
    (ctx.output / "sum.txt").write_text(str(result))
    return {"sum": float(str(result["sum"])), "world": float(str(result["world"]))}


def launching_failure(ctx: Context, config: ToyConfig) -> Metrics:
    """One of its ranks fails."""
    ctx.launch(rank_fails, 2)
    return {}


def launching_killed(ctx: Context, config: ToyConfig) -> Metrics:
    """One of its ranks is killed the first time."""
    value = ctx.launch(functools.partial(rank_killed_once, mark=str(ctx.scratch / "mark")), 2)
    return {"sum": float(str(value))}


def untidy(ctx: Context, config: ToyConfig) -> Metrics:
    """Changes what belongs to its process."""
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("PATH", None)
    os.chdir(ctx.scratch)
    return {}


def mapping_bad(ctx: Context, config: ToyConfig) -> Metrics:
    """One of its items is refused."""
    ctx.map(square, [1, 2, -3, 4])
    return {}


def slow_item(number: int) -> int:
    """The item function of `mapping_slowly`."""
    time.sleep(0.2)
    return number


def mapping_slowly(ctx: Context, config: ToyConfig) -> Metrics:
    """Maps for a long time unless it is stopped."""
    Path(f"{config.text}.begun").touch()
    ctx.map(slow_item, list(range(10_000)))
    return {}


def killing_item(item: tuple[int, str]) -> int:
    """Kills its process the first time it sees the number 1."""
    number, mark = item
    if number == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def mapping_killed(ctx: Context, config: ToyConfig) -> Metrics:
    """The process of one of its items is killed."""
    numbers = ctx.map(killing_item, [(number, str(ctx.scratch / "mark")) for number in range(3)])
    return {"sum": sum(numbers)}


def rank_lingers(rank: Rank, folder: str) -> Json:
    """Leaves its process id and stays."""
    (Path(folder) / f"rank-{rank.rank}").write_text(str(os.getpid()))
    time.sleep(600)
    return None


def rank_kills_its_step(rank: Rank, step: int, mark: str) -> Json:
    """Kills the process that launched it, the first time."""
    import torch.distributed as dist

    dist.barrier()
    if not Path(mark).exists():
        dist.barrier()
        if rank.rank == 0:
            Path(mark).touch()
            os.kill(step, signal.SIGKILL)
        time.sleep(600)
    return None


def launching_then_killed(ctx: Context, config: ToyConfig) -> Metrics:
    """Dies while its ranks run, the first time."""
    ctx.launch(functools.partial(rank_kills_its_step, step=os.getpid(), mark=str(ctx.scratch / "mark")), 2)
    return {}


def dies_when_asked(ctx: Context, config: ToyConfig) -> Metrics:
    """Its machine goes down as soon as the run is asked to stop."""
    Path(f"{config.text}.begun").touch()
    while not ctx.should_stop():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def vandal(ctx: Context, config: ToyConfig, left: Path) -> Metrics:
    """Deletes what it was given."""
    (left / "part" / "text.txt").unlink()
    return {}


def after(ctx: Context, config: ToyConfig, left: Path, right: Path) -> Metrics:
    """Reads two inputs."""
    return {}


def rank_counts(rank: Rank, folder: str, count: int) -> Json:
    """Counts in step with its peer and saves after each number."""
    import torch.distributed as dist

    path = Path(folder) / "count"
    start = int(path.read_text()) if path.exists() else 0
    dist.barrier()
    for number in range(start, count):
        time.sleep(0.02)
        dist.barrier()
        if rank.rank == 0:
            path.with_name("next").write_text(str(number + 1))
            path.with_name("next").replace(path)
    return start


def counting_ranks(ctx: Context, config: ToyConfig) -> Metrics:
    """Counts on two ranks."""
    body = functools.partial(rank_counts, folder=str(ctx.scratch), count=config.count)
    return {"started_at": float(str(ctx.launch(body, 2)))}
