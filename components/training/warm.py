"""Builds DeepSpeed's shared-memory collective once, at set-up: `python -m components.training.warm`.

DeepSpeed compiles this small C++ extension when its first engine on a CPU starts, and loads it from torch's extension
cache ever after. Left to the ranks, the first run of all would stand still for a minute, and a rank killed while it
compiles leaves torch's lock file behind, for which every later run waits without end. So it is built here under a lock
the operating system gives back when its holder dies, and a left-over lock file is removed by whoever holds that lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from components.errors import MachineError

OPERATION = "deepspeed_shm_comm"


def warm_deepspeed() -> float:
    """Makes sure DeepSpeed's CPU collective is compiled and loaded into this process.

    Returns:
        Seconds it took: under 1 once the cache is warm, 40 to 90 the first time.

    Raises:
        MachineError: If it cannot be compiled.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    start = time.perf_counter()
    with redirect_stdout(sys.stderr):
        import deepspeed  # noqa: F401  (sets up what the builder needs)
        from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

        with _build_lock() as cache:
            (cache / OPERATION / "lock").unlink(missing_ok=True)
            try:
                ShareMemCommBuilder().load(verbose=False)
            except (RuntimeError, OSError) as error:
                raise _no_compiler(error) from error
    return time.perf_counter() - start


@contextmanager
def _build_lock() -> Iterator[Path]:
    """Holds the lock of torch's extension cache, waiting for its holder to finish or die."""
    from torch.utils.cpp_extension import _get_build_directory

    cache = Path(_get_build_directory(OPERATION, verbose=False)).parent
    with (cache / ".headwater.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield cache


def _no_compiler(error: Exception) -> MachineError:
    missing = [name for name in ("g++", "ninja") if shutil.which(name) is None]
    reason = f"{' and '.join(missing)} not found on PATH" if missing else str(error).strip().splitlines()[-1]
    return MachineError(
        f"DeepSpeed's CPU collective could not be compiled: {reason}.",
        where="components.training.warm",
        fix="install a C++ compiler (apt-get install g++) and run make setup, or set training.engine=plain "
        "training.ranks=1",
    )


if __name__ == "__main__":
    print(f"DeepSpeed is ready ({warm_deepspeed():.1f} s).")
