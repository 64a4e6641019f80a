"""CPU time of a step of DeepSpeed's ZeRO-1 and ZeRO-3 on two ranks, by our loop, beside torch's DDP in a plain loop.

The same model, rows and global batch, two gloo ranks of one thread each; CPU time is the mean of both ranks. They take
turns a few steps at a time; the minimum and the median of the rounds. What a rank uses while it waits for the other is
measured beside, since it would be part of every figure. Run with `make bench`; goals: ZeRO-1 1.12 times DDP's CPU
time at most, ZeRO-3 1.30. Nothing passes or fails by the clock.
"""

from __future__ import annotations

import os
import statistics
import subprocess

import pytest
from side_by_side import ours, shape_of, take_turns

ROUNDS, STEPS, WARMUP = 7, 4, 4
SIZES = {"vocab": 8192, "dim": 256, "layers": 6, "heads": 4, "ffn": 704, "length": 256, "batch": 8, "device": "cpu"}
SHAPE = shape_of(family="llama", warmup=WARMUP, steps=STEPS, **SIZES)
FILE = "two_ranks.py"
GOALS = {"DDP": "", "ZeRO-1": "; goal 1.12 at most", "ZeRO-3": "; goal 1.30 at most"}


def share_while_waiting() -> float:
    """CPU time of a rank that waits for the other, in seconds a second."""
    entrant = ours("waiting", FILE, "waiting", "{}")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **entrant.variables}
    command = [str(part) for part in entrant.command]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(next(line for line in done.stdout.splitlines() if line.startswith("waited")).split()[1])


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_zero_beside_ddp() -> None:
    waiting = share_while_waiting()
    entrants = [
        ours("DDP", FILE, "ddp", SHAPE),
        ours("ZeRO-1", FILE, "zero1", SHAPE),
        ours("ZeRO-3", FILE, "zero3", SHAPE),
    ]
    took = take_turns(entrants, ROUNDS)
    base = took["DDP"]
    print(f"\ntwo ranks, {ROUNDS} rounds of {STEPS} steps; a rank that waits uses {waiting:.4f} s of CPU time a second")
    for name, seconds in took.items():
        best, median = min(seconds), statistics.median(seconds)
        times = f"{best / STEPS * 1000:6.0f} ms a step and rank (median {median / STEPS * 1000:6.0f})"
        ratios = f"{best / min(base):5.3f} x DDP of minima, {median / statistics.median(base):5.3f} of medians"
        print(f"{name:8s}{times}   {ratios}{GOALS[name]}")
