"""How long a step may wait for room, be silent, and run: what each limit says of each running step.

All spans are measured by the driver's own clock. A step counts as started once its attempt holds the lease of its key,
and as alive while its journal or its log grow. One that is over its whole time is asked to stop first, so that it can
save; one that is silent is not: it would not listen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.engine.cluster import ClusterConfig
from pipelines.engine.retry import FailureClass
from pipelines.engine.run_step import Order
from pipelines.engine.store import Store

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Verdict:
    """A limit that a step is over.

    Attributes:
        failure_class: What kind of failure that is.
        detail: Which limit, in words.
        by_force: End it now; otherwise it is asked to stop.
    """

    failure_class: FailureClass
    detail: str
    by_force: bool


@dataclass
class _Clock:
    """Moments of one attempt, in seconds of the driver's clock."""

    submitted: float
    started: float | None = None
    sign: tuple[float, ...] = ()
    sign_at: float = 0.0
    asked_at: float | None = None
    asked: Verdict | None = None


class Limits:
    """Keeps the time of running steps.

    Args:
        config: The limits.
        store: Tells whether an attempt holds its lease.
        clock: Seconds since some moment.
    """

    def __init__(self, config: ClusterConfig, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._store, self._clock = config, store, clock
        self._clocks: dict[str, _Clock] = {}
        self._looked_at = float("-inf")

    def submitted(self, step: str) -> None:
        """A step was submitted now."""
        self._clocks[step] = _Clock(self._clock())

    def ended(self, step: str) -> Verdict | None:
        """A step has ended; what it was asked to stop for, if it was."""
        clock = self._clocks.pop(step, None)
        return None if clock is None else clock.asked

    def give_up(self, step: str) -> None:
        """A step was cancelled: it is ended once its grace is over."""
        if step in self._clocks:
            clock = self._clocks[step]
            clock.asked, clock.asked_at = Verdict("timed_out", "it was cancelled", by_force=False), self._clock()

    def has_started(self, order: Order) -> bool:
        """Whether the attempt has begun something that is worth saving."""
        clock = self._clocks.get(order.entry.name)
        if clock is None:
            return False
        if clock.started is None and self._store.was_taken_by(order.entry.name, order.entry.key, order.token):
            clock.started = clock.sign_at = self._clock()
        return clock.started is not None

    def look(self, running: Sequence[Order]) -> list[tuple[Order, Verdict]]:
        """Steps that are over a limit now; looks about once a second."""
        if self._clock() - self._looked_at < LOOK_EVERY_S:
            return []
        self._looked_at = self._clock()
        verdicts = [(order, self._judge(order)) for order in running]
        return [(order, verdict) for order, verdict in verdicts if verdict is not None]

    def _judge(self, order: Order) -> Verdict | None:
        config, now = self._config, self._clock()
        clock = self._clocks[order.entry.name]
        if clock.asked is not None and clock.asked_at is not None:
            late = now - clock.asked_at > config.grace_s
            return Verdict(clock.asked.failure_class, clock.asked.detail, by_force=True) if late else None
        if not self.has_started(order):
            waited = now - clock.submitted
            over = 0 < config.pending_timeout_s < waited
            return Verdict("pending", f"cluster.pending_timeout_s={config.pending_timeout_s:g}", True) if over else None
        assert clock.started is not None
        if 0 < config.timeout_s < now - clock.started:
            clock.asked, clock.asked_at = Verdict("timed_out", f"cluster.timeout_s={config.timeout_s:g}", False), now
            return clock.asked
        sign = _sign(order.folder)
        if sign != clock.sign:
            clock.sign, clock.sign_at = sign, now
        if 0 < config.stall_timeout_s < now - clock.sign_at:
            return Verdict("stalled", f"cluster.stall_timeout_s={config.stall_timeout_s:g}", True)
        return None


def _sign(folder: Path) -> tuple[float, ...]:
    """What changes whenever a step says something."""
    sign: list[float] = []
    for name in ("journal.jsonl", "log.txt"):
        try:
            found = (folder / name).stat()
            sign += [found.st_size, found.st_mtime]
        except FileNotFoundError:
            sign += [0.0, 0.0]
    return tuple(sign)
