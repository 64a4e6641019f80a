"""What the processes of a race do; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

from commit_help import DRAFT, write

from pipelines.engine.lease import Lease, LeaseLost
from pipelines.engine.store import Store

DEADLINE_S = 120.0


def key_of(number: int) -> str:
    return hashlib.sha256(f"round {number}".encode()).hexdigest()


def race(url: str, workspace: str, barrier: Barrier, rounds: int) -> None:
    """Wants the artifact of each round at the same moment as all others do; builds it if it is the first."""
    store = Store(url, workspace)
    for number in range(rounds):
        barrier.wait(DEADLINE_S)
        _get(store, key_of(number))


def _get(store: Store, key: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while store.lookup("clean", key).manifest is None:
        assert time.monotonic() < deadline, "nobody builds it"
        lease = store.acquire("clean", key, f"run-{os.getpid()}")
        if not isinstance(lease, Lease):
            time.sleep(0.002)
            continue
        if store.lookup("clean", key).manifest is not None:
            lease.release("it was built meanwhile")
            continue
        attempt = store.begin(lease)
        store.root.create(f"builds/{key}/{os.getpid()}", b"")
        write(attempt, {"maker.txt": str(os.getpid())})
        store.commit(lease, attempt, replace(DRAFT, key=key))


def hold(url: str, workspace: str, lease_s: float) -> None:
    """Builds until it is told to commit; says on stdout how that went. A program: see the end."""
    store = Store(url, workspace)
    lease = store.acquire("clean", DRAFT.key, "amber-1", lease_s)
    assert isinstance(lease, Lease)
    lease.start_beating(lambda: None)
    attempt = store.begin(lease)
    write(attempt, {"maker.txt": "the stopped one"})
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        write(attempt, {"late/more.txt": "written after it woke"})
        store.commit(lease, attempt, DRAFT)
        print("committed", flush=True)
    except LeaseLost as error:
        print(f"lost: {error.what}", flush=True)


if __name__ == "__main__":
    hold(sys.argv[1], str(Path(sys.argv[2])), float(sys.argv[3]))
