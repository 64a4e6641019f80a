"""Starts DeepSpeed once, at set-up, and builds our kernels: `python -m components.training.warm`.

A machine on which DeepSpeed does not start is told so here and not in the middle of a run; the compiled byte code it
leaves behind makes every later start quick. Nothing of DeepSpeed's is built: see `deepspeed_start`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from components.context import Json, Rank, local_context
from components.model.native import why_not
from components.training.config import TrainingConfig


def warm_deepspeed() -> float:
    """Makes a DeepSpeed engine on one rank and takes one step.

    Returns:
        Seconds it took: 2 to 5.

    Raises:
        MachineError: If DeepSpeed cannot be imported.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        local_context("warm", Path(folder)).launch(_one_step, 1)
    return time.perf_counter() - start


def _one_step(rank: Rank) -> Json:
    from torch import nn

    from components.training.engine import make_engine

    engine = make_engine(nn.Linear(4, 4), TrainingConfig(batch_size=1, micro_batch=1, ranks=1), rank)
    weights = next(iter(engine.full_weights().values()))
    engine.backward(engine.module(weights.to(engine.device)).sum())
    engine.step(1e-3)
    engine.close()
    return None


if __name__ == "__main__":
    print(f"DeepSpeed is ready ({warm_deepspeed():.1f} s).")
    reason = why_not()
    print(f"Kernels for this CPU: {f'those of torch, because {reason}' if reason else 'our own'}.")
