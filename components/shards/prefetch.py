"""Batches read ahead by threads, while the step before computes.

A batch is a pure function of its step, so reading ahead changes nothing but the time of the read: whoever asks gets the
same values with no thread, one or many. Threads suffice: copying out of mapped files holds no lock, and waiting for a
disk does not either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `make(step)`, for the steps that come next ahead of time.

    Args:
        make: Makes what a step needs. Pure, and safe to call from threads.
        workers: Threads, and steps read ahead; 0 reads when asked.
    """

    def __init__(self, make: Callable[[int], T], workers: int) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._workers = workers
        self._ahead: dict[int, Future[T]] = {}

    def get(self, step: int) -> T:
        """What `make(step)` gives."""
        if self._pool is None:
            return self._make(step)
        wanted = range(step, step + self._workers + 1)
        for other in [other for other in self._ahead if other not in wanted]:
            self._ahead.pop(other).cancel()
        for number in wanted:
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._make, number)
        return self._ahead.pop(step).result()

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
