"""A reader that is killed: goes on from the last step it wrote down, until all steps are done. Run as a program.

python -m tests.components.shards.reader TOKENS PLAN JOURNAL WORLD WORKERS STEPS
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from components.shards.config import MixtureConfig
from components.shards.loader import Loader
from components.shards.prefetch import Prefetcher
from components.shards.schedule import Schedule

BATCH, LENGTH = 12, 16
MIXED = MixtureConfig({"en": "0.5", "zh": "0.3", "de": "0.2"}, {"9": "en=1,zh=1"})


def read(tokens: Path, plan: Path, journal: Path, world: int, workers: int, steps: int) -> None:
    """Appends "step hash" for every step, each line on disk before the next step."""
    loader, share = Loader.open(tokens, Schedule(7, BATCH, LENGTH, MIXED), plan), BATCH // world
    readers = [
        Prefetcher(lambda step, rank=rank: loader.batch(step, rank * share, (rank + 1) * share), workers)
        for rank in range(world)
    ]
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    journal.write_bytes(b"".join(whole))
    with journal.open("ab", buffering=0) as file:
        for step in range(len(whole), steps):
            digest = hashlib.sha256()
            for reader in readers:
                digest.update(reader.get(step).ids.tobytes())
            file.write(f"{step} {digest.hexdigest()}\n".encode())
            os.fsync(file.fileno())
    for reader in readers:
        reader.close()


if __name__ == "__main__":
    folders, numbers = map(Path, sys.argv[1:4]), map(int, sys.argv[4:7])
    read(*folders, *numbers)
