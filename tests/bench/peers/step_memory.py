"""Peak resident memory of a few training steps, as one program: `python step_memory.py WHO SHAPE`; WHO: ours, nanogpt.

Each runs its own training loop, as for the speed; nothing else is in the process. Says "baseline <MiB>" once all is
imported and before a model exists, and at the end "peak <MiB>". Both import what the other imports of torch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch.nn.parallel

STEPS = 4


def resident(field: str) -> float:
    """A line of this process's status in MiB: VmRSS (now) or VmHWM (the peak)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


class Meter:
    """In the place of a `Pacer`: lets some steps run, says the peak and leaves."""

    def __init__(self, *arguments: object) -> None:
        self._done = 0

    def step(self) -> None:
        """Call before each step."""
        self._done += 1
        if self._done > STEPS + 1:  # nanoGPT scores one training batch before its first step
            print(f"\npeak {resident('VmHWM')}", flush=True)
            os._exit(0)


def main(who: str, shape: dict[str, Any]) -> None:
    """Trains until the meter ends it."""
    torch.set_num_threads(1)
    if who == "nanogpt":
        import pretraining_peers

        print(f"\nbaseline {resident('VmRSS')}", flush=True)
        pretraining_peers.nanogpt(shape, Meter(), False)  # type: ignore[arg-type]
        return
    import our_pretraining

    from components.context import local_context

    our_pretraining.Pacer = Meter  # type: ignore[assignment,misc]
    folder = Path(tempfile.mkdtemp())
    print(f"\nbaseline {resident('VmRSS')}", flush=True)
    local_context("bench", folder).launch(partial(our_pretraining.run, shape=shape, engine="plain", folder=folder), 1)


if __name__ == "__main__":
    main(sys.argv[1], {**json.loads(sys.argv[2]), "compile": False})
