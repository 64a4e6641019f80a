"""Rounds: several training programs take turns on one core, each a few steps at a time.

A program calls `Pacer.step` before each of its steps. After the warm-up it says "ready"; then, for each line it reads,
it trains one round and says "took <seconds of CPU time>". At the end of its input it leaves. So programs of different
environments are measured side by side while each runs its own training loop, and waiting costs no CPU time.
"""

from __future__ import annotations

import os
import sys
import time


class Pacer:
    """Counts steps.

    Args:
        warmup: Steps before the first round: allocations, caches, compilation.
        steps: Steps of a round.
    """

    def __init__(self, warmup: int, steps: int) -> None:
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
        print(f"\ntook {time.process_time() - self._began}" if past else "\nready", flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # amid somebody's training loop: nothing is left to be tidied up
        self._began = time.process_time()
