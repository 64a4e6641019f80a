"""Getting DeepSpeed to start quickly, and without a compiler.

Out of the box a rank on a CPU pays for two things it never uses. The import runs through DeepSpeed's autotuner, which
imports mlflow and with it pandas and scipy: 1.5 s and 137 MB a rank, against 0.35 s and 22 MB without. And the first
engine compiles a shared-memory collective for 40 s (2 s to load it ever after, and a rank killed while it compiles
leaves a lock file for which later ones wait without end), though only DeepSpeed's inference calls it: training goes
through gloo. So mlflow is out of sight while DeepSpeed is imported, and the collective is declared not available.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
import torch.distributed as dist

from components.errors import MachineError

_SHARED_MEMORY = "deepspeed_shm_comm"


def start_deepspeed(device: torch.device) -> ModuleType:
    """Imports DeepSpeed for a device and makes it ready for a new process group.

    Raises:
        MachineError: If it cannot be imported.
    """
    on_cpu = device.type == "cpu"
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        with _out_of_sight("mlflow"):
            import deepspeed
    except ImportError as error:
        raise MachineError(
            f"DeepSpeed cannot be imported: {error}.",
            where="training.engine=deepspeed",
            fix="run make setup, or set training.engine=plain training.ranks=1",
        ) from error
    if on_cpu:
        deepspeed.ops.__compatible_ops__ = {**deepspeed.ops.__compatible_ops__, _SHARED_MEMORY: False}
    # DeepSpeed calls these collectives by names that torch has renamed: one warning per call, nothing to act on.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    _forget_old_groups()
    module: ModuleType = deepspeed
    return module


def _forget_old_groups() -> None:
    """Makes DeepSpeed drop the process groups it cached in an earlier `launch` of this process, which are gone."""
    from deepspeed.utils import groups

    if groups._WORLD_GROUP is not None and groups._WORLD_GROUP not in dist.distributed_c10d._world.pg_map:
        groups._release_process_group_references()


@contextmanager
def _out_of_sight(name: str) -> Iterator[None]:
    """Makes `import name` fail inside the block, unless it is imported already: then it costs nothing more."""
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]
