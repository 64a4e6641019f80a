"""Peak resident memory of training with a vocabulary of 32,768 beside nanoGPT, same shape (GPT-2 with biases).

Each trains a few steps by its own loop in a process of its own, on this project's Python, from the checkout that
HEADWATER_NANOGPT names. Logits of all rows at once are what costs; ours are never whole. The ratio is printed of all
that is resident, and with what was resident before a model existed taken off. Run with `make bench`; goal 0.7 at most.
Nothing passes or fails by the figure.
"""

from __future__ import annotations

import os
import statistics
import subprocess

import pytest
from side_by_side import ours, shape_of

ROUNDS = 3
SIZES = {"vocab": 32_768, "dim": 256, "layers": 6, "heads": 4, "ffn": 1024, "length": 256, "batch": 8}
SHAPE = shape_of(family="gpt2", device="cpu", warmup=0, steps=1, **SIZES)


def measure(who: str) -> tuple[float, float]:
    """Peak and baseline in MiB."""
    entrant = ours(who, "step_memory.py", who, SHAPE)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **entrant.variables}
    command = [str(part) for part in entrant.command]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
    said = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("peak ", "baseline ")))
    assert len(said) == 2, done.stderr[-3000:]
    return float(said["peak"]), float(said["baseline"])


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_peak_memory_beside_nanogpt() -> None:
    if "HEADWATER_NANOGPT" not in os.environ:
        pytest.skip("HEADWATER_NANOGPT names no checkout of nanoGPT")
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "nanogpt": []}
    for _ in range(ROUNDS):
        for who, figures in found.items():
            figures.append(measure(who))
    peak = {who: statistics.median(peak for peak, _ in figures) for who, figures in found.items()}
    above = {who: statistics.median(peak - base for peak, base in figures) for who, figures in found.items()}
    print(f"\nvocabulary {SIZES['vocab']}, {ROUNDS} processes each, medians")
    for who, figures in found.items():
        spread = f"{min(peak for peak, _ in figures):.0f} to {max(peak for peak, _ in figures):.0f}"
        print(f"{who:8s} peak {peak[who]:6.0f} MiB ({spread}), {above[who]:6.0f} above what imports take")
    print(f"ratio    {peak['ours'] / peak['nanogpt']:.3f} of all, {above['ours'] / above['nanogpt']:.3f} above imports")
    print("goal     0.7 at most")
