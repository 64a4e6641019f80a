"""Locks of the workspace: who drives a run, who uploads it, whether old ranks still write into a scratch folder.

A lock is a kernel lock (flock) on a file: the kernel frees it the instant its holder dies, however it dies. It reaches
as far as the file system's locks do: processes of one machine, and of several over NFS version 4. Artifacts may lie
where there are no such locks; who builds one is settled by `lease`. Lock files stay; removing one under a waiter would
hand out the lock twice.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Takes the lock if it is free and yields whether it was; never waits.

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
    """Holds the lock together with others of the same kind; `try_lock` is refused meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tells whether some process holds the lock now."""
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
