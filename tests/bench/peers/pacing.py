"""Rounds: several training programs take turns on one core, each a few steps at a time.

A program calls `Pacer.step` before each of its steps. After the warm-up it says "ready"; then, for each line it reads,
it trains one round and says "peak <bytes>" and "took <seconds>". At the end of its input it leaves. So programs of
different environments are measured side by side while each runs its own training loop, and waiting costs no CPU time.

On a CPU the seconds are of CPU time and the peak is of resident memory; on a GPU they are of wall time, once the device
has done all that was asked of it, and the peak is of what torch had allocated there.
"""

from __future__ import annotations

import os
import resource
import sys
import time


class Pacer:
    """Counts steps.

    Args:
        warmup: Steps before the first round: allocations, caches, compilation.
        steps: Steps of a round.
        device: "cpu" or "cuda".
    """

    def __init__(self, warmup: int, steps: int, device: str = "cpu") -> None:
        self._cuda = device == "cuda"
        self._warmup = warmup
        self._steps = steps
        self._done = 0
        self._began = 0.0

    def step(self) -> None:
        """Call before each step; returns when it may run."""
        past = self._done - self._warmup
        self._done += 1
        if past < 0 or past % self._steps:
            return
        took = self._now() - self._began
        print(f"\npeak {self._peak()}\ntook {took}" if past else "\nready", flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # amid somebody's training loop: nothing is left to be tidied up
        self._began = self._now()

    def _now(self) -> float:
        if not self._cuda:
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    def _peak(self) -> int:
        if not self._cuda:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        import torch

        return torch.cuda.max_memory_allocated()
