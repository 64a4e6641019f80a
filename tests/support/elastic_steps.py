"""A step whose ranks count together and say how many they are: for tests of clusters that lose machines."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from components.context import Context, Json, Metrics, Rank

VERSION = 1


@dataclass(frozen=True)
class ElasticConfig:
    """How far is counted, on how many ranks, and on how few at least."""

    count: int = 40
    ranks: int = 3
    min_ranks: int = 1


def rank_counts(rank: Rank, folder: str, count: int) -> Json:
    """Counts in step with its peers, saves each number, and writes down how many ranks there were."""
    import torch
    import torch.distributed as dist

    saved = Path(folder) / "count"
    start = int(saved.read_text()) if saved.exists() else 0
    dist.barrier()
    for number in range(start, count):
        present = torch.ones(1)
        dist.all_reduce(present)
        time.sleep(0.05)
        if rank.rank == 0:
            with (Path(folder) / "history").open("a") as history:
                history.write(f"{number} {int(present)}\n")
            saved.with_name("next").write_text(str(number + 1))
            saved.with_name("next").replace(saved)
    return {"world": rank.world_size, "started_at": start}


def counting_anywhere(ctx: Context, config: ElasticConfig) -> Metrics:
    """Counts on as many ranks as there is room for."""
    allowed = tuple(range(config.min_ranks, config.ranks))
    result = ctx.launch(
        functools.partial(rank_counts, folder=str(ctx.scratch), count=config.count), config.ranks, allowed
    )
    assert isinstance(result, dict)
    (ctx.output / "history").write_bytes((ctx.scratch / "history").read_bytes())
    return {name: float(str(value)) for name, value in result.items()}


def rank_meets(rank: Rank, folder: str) -> Json:
    """Adds up over the group, and writes down where it met the others."""
    import torch
    import torch.distributed as dist

    value = torch.tensor([float(rank.rank + 1)])
    dist.all_reduce(value)
    names = ("MASTER_ADDR", "GLOO_SOCKET_IFNAME", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    (Path(folder) / f"rank-{rank.rank}").write_text(" ".join(os.environ.get(name, "-") for name in names))
    dist.barrier()
    return float(value)


def meeting(ctx: Context, config: ElasticConfig) -> Metrics:
    """Brings all ranks together once."""
    return {"sum": float(str(ctx.launch(functools.partial(rank_meets, folder=str(ctx.output)), config.ranks)))}
