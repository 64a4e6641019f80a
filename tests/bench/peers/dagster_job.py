"""A Dagster job of a shape, by environment: BENCH_SHAPE, and BENCH_EXECUTOR ("multiprocess" or "in_process")."""

from __future__ import annotations

import os

from dagster import In, Nothing, OpDefinition, in_process_executor, job, multiprocess_executor, op
from shapes import SHAPES

DAG = SHAPES[os.environ["BENCH_SHAPE"]]
EXECUTORS = {"multiprocess": multiprocess_executor, "in_process": in_process_executor}


def make(name: str) -> OpDefinition:
    """An op that does nothing after others did."""

    def nothing() -> None:
        pass

    return op(name=name, ins={source: In(Nothing) for source in DAG[name]})(nothing)


OPS = {name: make(name) for name in DAG}


@job(executor_def=EXECUTORS[os.environ["BENCH_EXECUTOR"]])
def bench() -> None:
    """The DAG."""
    made: dict[str, object] = {}
    for name, sources in DAG.items():
        made[name] = OPS[name](**{source: made[source] for source in sources})
