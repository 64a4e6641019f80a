"""Getting DeepSpeed to start quickly, and without a compiler.

Out of the box a rank on a CPU pays for two things it never uses. The import runs through DeepSpeed's autotuner, which
imports mlflow and with it pandas and scipy: 1.5 s and 137 MB a rank, against 0.35 s and 22 MB without. And the first
engine compiles a shared-memory collective for 40 s (2 s to load it ever after, and a rank killed while it compiles
leaves a lock file for which later ones wait without end), though only DeepSpeed's inference calls it: training goes
through gloo. So mlflow is out of sight while DeepSpeed is imported, and the collective is declared not available.

Each engine also imports DeepSpeed's Muon, to know it if it met it. That hands three functions to torch.compile, which
imports the whole of inductor (1.2 s a rank), and Muon here is ours: so DeepSpeed's is imported uncompiled.
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


def start_deepspeed(device: torch.device, tensor_parallel: int = 1) -> ModuleType:
    """Imports DeepSpeed for a device and makes it ready for a new process group.

    Args:
        device: Where the ranks compute.
        tensor_parallel: Ranks that share each matrix.

    Raises:
        MachineError: If it cannot be imported.
    """
    on_cpu = device.type == "cpu"
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        with _out_of_sight("mlflow"):
            import deepspeed
        _import_muon_uncompiled()
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
    _forget_old_groups(tensor_parallel)
    module: ModuleType = deepspeed
    return module


def _import_muon_uncompiled() -> None:
    from deepspeed.runtime import compiler

    compiling = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
    finally:
        compiler.compile = compiling


def _forget_old_groups(tensor_parallel: int) -> None:
    """Makes DeepSpeed drop the process groups it cached for an earlier engine of this process.

    They are gone since the `launch` they were made in, or made for another number of ranks that share matrices.
    """
    from deepspeed.utils import groups

    cached, shared = groups._WORLD_GROUP, groups._TENSOR_MODEL_PARALLEL_GROUP
    gone = cached is not None and cached not in dist.distributed_c10d._world.pg_map
    if gone or (shared is not None and (tensor_parallel == 1 or dist.get_world_size(shared) != tensor_parallel)):
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
