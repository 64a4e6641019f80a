"""A Prefect flow of a shape: `python prefect_flow.py SHAPE [keep]`. No caches; results are persisted only under `keep`.

A chain calls its tasks, which is Prefect's fastest way; where steps may go side by side they are submitted. The first
flow of a process starts a server, which takes a hundred times what the steps take; so a small one goes before, and the
wall and CPU seconds of the second are printed as the last line.
"""

from __future__ import annotations

import sys
import time

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from shapes import SHAPES

KEEP = "keep" in sys.argv


@task(cache_policy=NO_CACHE, persist_result=KEEP)
def noop(*sources: object) -> None:
    """Does nothing."""


@flow(persist_result=False)
def bench(shape: str) -> None:
    """The DAG."""
    made: dict[str, object] = {}
    for name, sources in SHAPES[shape].items():
        before = [made[source] for source in sources]
        made[name] = noop.submit(*before, wait_for=before) if shape == "wide" else noop(*before)
    if shape == "wide":
        made[name].result()  # type: ignore[attr-defined]


if __name__ == "__main__":
    bench("small")
    wall, cpu = time.perf_counter(), time.process_time()
    bench(sys.argv[1])
    print("took", time.perf_counter() - wall, time.process_time() - cpu, file=sys.stderr, flush=True)
