"""Training on two gloo ranks of this machine, in rounds: `python two_ranks.py KIND SHAPE`.

KIND: zero1 and zero3 are our `train` over DeepSpeed; ddp is a plain loop over the same model and rows under torch's
DistributedDataParallel. This program is rank 0 and starts rank 1. As with `pacing`, it says "ready" and runs a round
for each line it reads; what it says is the mean of both ranks' CPU time. KIND waiting says instead how much CPU time a
rank uses while it waits for the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from our_pretraining import FOREVER, Paced, make_loader, model_config

from components.channel import Channel
from components.context import Json, Rank, free_port
from components.launching import Seat, run_rank
from components.model.transformer import Transformer
from components.shards.loader import TokenRows
from components.training.config import TrainingConfig
from components.training.engine import make_engine
from components.training.loop import train

PEAK_LR, WAITED_S = 6e-4, 3.0


class SharedPacer:
    """A `Pacer` of two ranks: rank 0 reads and speaks, both begin a round together."""

    def __init__(self, rank: int, warmup: int, steps: int) -> None:
        self._rank, self._warmup, self._steps = rank, warmup, steps
        self._done, self._began, self._wall = 0, 0.0, 0.0

    def step(self) -> None:
        """Call before each step; returns when it may run."""
        past = self._done - self._warmup
        self._done += 1
        if past < 0 or past % self._steps:
            return
        took = torch.tensor([time.process_time() - self._began, time.perf_counter() - self._wall], dtype=torch.float64)
        dist.all_reduce(took)
        if self._rank == 0:
            said = f"\nwall {float(took[1] / 2)}\ntook {float(took[0] / 2)}" if past else "\nready"
            print(said, flush=True)
        go = torch.tensor([float(self._rank == 0 and bool(sys.stdin.readline()))])
        dist.broadcast(go, 0)
        if not go.item():
            os._exit(0)  # amid a training loop: nothing is left to be tidied up
        self._began, self._wall = time.process_time(), time.perf_counter()


def zero(rank: Rank, shape: dict[str, Any], stage: int, folder: Path) -> Json:
    """What a user runs."""
    config = TrainingConfig(
        steps=FOREVER,
        batch_size=shape["batch"],
        micro_batch=shape["batch"] // 2,
        lr=PEAK_LR,
        warmup_steps=100,
        engine="deepspeed",
        zero_stage=stage,
        ranks=2,
        eval_every=0,
        checkpoint_every=0,
    )
    loader = make_loader(shape)
    task = Paced(config, loader, TokenRows(loader.split, shape["length"]), lambda engine, step: None)
    task.pacer = SharedPacer(rank.rank, shape["warmup"], shape["steps"])  # type: ignore[assignment]
    model = Transformer(model_config(shape), torch.Generator().manual_seed(1))
    train(rank, config, make_engine(model, config, rank), task, folder)
    return None


def ddp(rank: Rank, shape: dict[str, Any]) -> Json:
    """What anyone would write."""
    loader, pacer = make_loader(shape), SharedPacer(rank.rank, shape["warmup"], shape["steps"])
    module = Transformer(model_config(shape), torch.Generator().manual_seed(1))
    model = torch.nn.parallel.DistributedDataParallel(module)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, 100)
    share = shape["batch"] // 2
    for step in range(FOREVER):
        pacer.step()
        rows = loader.batch(step, rank.rank * share, (rank.rank + 1) * share)
        loss = model(torch.from_numpy(rows.tokens), torch.from_numpy(rows.targets)) / (share * shape["length"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    return None


def waiting(rank: Rank) -> Json:
    """Rank 1 comes late to a sum that rank 0 waits in."""
    dist.all_reduce(torch.zeros(1))
    began = time.process_time()
    if rank.rank == 1:
        time.sleep(WAITED_S)
    dist.all_reduce(torch.zeros(1))
    if rank.rank == 0:
        print(f"\nwaited {(time.process_time() - began) / WAITED_S}", flush=True)
    return None


def work(rank: Rank, kind: str, shape: dict[str, Any], folder: Path) -> Json:
    """The work of a rank."""
    torch.set_num_threads(1)
    if kind == "waiting":
        return waiting(rank)
    return ddp(rank, shape) if kind == "ddp" else zero(rank, shape, int(kind[-1]), folder)


def main(kind: str, shape: str, number: int, port: int, folder: Path) -> None:
    """Runs one rank of the two; rank 0 starts the other."""
    if number == 0:
        command = [sys.executable, __file__, kind, shape, "1", str(port), str(folder)]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    seat = Seat(number, 2, number, 2, "127.0.0.1", port)
    values = json.loads(shape)
    run_rank(lambda rank: work(rank, kind, values, folder), seat, "cpu", Channel(folder), folder)


if __name__ == "__main__":
    rest = sys.argv[3:] or ["0", str(free_port()), tempfile.mkdtemp()]
    main(sys.argv[1], sys.argv[2], int(rest[0]), int(rest[1]), Path(rest[2]))
