"""Who builds an artifact: one lease per key, held by the process that does the work.

The lease is a kernel lock (flock) on a file under `leases/`: the kernel frees it the instant its holder dies, however
it dies, so there is no heartbeat to miss and no stale lease to judge. It reaches as far as the file system's locks do:
processes of one machine, and of several over NFS version 4. The same lock on a run's `driver.lock` tells a live driver
from a dead one. Lock files stay; removing one under a waiter would hand out the lease twice.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lease(path: Path) -> Iterator[bool]:
    """Takes the lease if it is free and yields whether it was; never waits.

    Args:
        path: The lock file, made if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@contextmanager
def hold_shared(path: Path) -> Iterator[None]:
    """Holds the lease together with others of the same kind; `try_lease` is refused meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tells whether some process holds the lease now."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
