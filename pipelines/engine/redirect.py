"""All a step prints goes to its log file: Python's streams and the two file descriptors beneath them.

Descriptors too, because native libraries and child processes write past Python. The previous ones come back afterwards:
a Ray worker serves many steps. Whoever shows something on the terminal while steps run inside this very process must
write to a duplicate of descriptor 1 made before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Appends stdout and stderr of this process to a file for the time of the block."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:
        try:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            with redirect_stdout(stream), redirect_stderr(stream):
                yield
        finally:
            for target, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)
