"""A context whose `map` runs in several processes, last item first: what depends on order or workers shows itself."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.context import LocalContext, local_context

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ParallelContext(LocalContext):
    """See the module; `pool` holds the processes."""

    pool: ProcessPoolExecutor | None = None

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        assert self.pool is not None
        futures = [self.pool.submit(fn, item) for item in reversed(items)]
        return [future.result() for future in reversed(futures)]


@contextmanager
def parallel_context(step: str, folder: Path, workers: int, base_seed: int = 0) -> Iterator[ParallelContext]:
    """A context under one folder (see `local_context`) whose `map` has so many processes."""
    plain = local_context(step, folder, base_seed)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield ParallelContext(plain.step, plain.output, plain.scratch, plain.channel, base_seed, pool)
