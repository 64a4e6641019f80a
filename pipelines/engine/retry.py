"""Which failures are worth another attempt, and when: a pure function, so that every case can be tested.

What the machine did to a step (its process was killed, its node went away, its memory ran out) may not happen again;
what the step said about its data, its settings or its code will. Each class has its own count, so that a few lost
nodes do not use up the attempts a crash would get; and nodes that are taken away have a budget of their own, far
larger: on preemptible machines that is the weather, not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

FailureClass: TypeAlias = Literal[
    "preempted", "node_lost", "crash", "out_of_memory", "stalled", "timed_out", "pending", "error"
]

REASONS: Mapping[FailureClass, str] = {
    "preempted": "its node was taken away",
    "node_lost": "its node was lost",
    "crash": "its process died",
    "out_of_memory": "it ran out of memory",
    "stalled": "it gave no sign of life",
    "timed_out": "its time was over",
    "pending": "it waited too long for room",
    "error": "it raised an error",
}
PREEMPTIONS: tuple[FailureClass, ...] = ("preempted", "node_lost")
FINAL: tuple[FailureClass, ...] = ("timed_out", "pending", "error")
"""Classes that another attempt would only meet again."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon.

    Attributes:
        max_retries: Attempts after the first, for each class of failure that is retried.
        max_preemptions: As `max_retries`, for nodes that were taken away or lost, counted together.
        first_delay_s: Seconds before the first retry; doubled for each further one.
        longest_delay_s: Cap of the delay.
    """

    max_retries: int = 2
    max_preemptions: int = 100
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0


@dataclass(frozen=True)
class Decision:
    """What to do about a failure: try again after `delay_s`, or not."""

    retry: bool
    delay_s: float = 0.0


def decide(failure: FailureClass, failures: Mapping[FailureClass, int], policy: RetryPolicy, jitter: float) -> Decision:
    """Decides about the newest failure of a step.

    Args:
        failure: Its class.
        failures: Failures of the step so far by class, this one counted.
        policy: How often and how soon.
        jitter: A random number in [0, 1); spreads the delay over its upper half, so that steps that fell together do
            not come back together.
    """
    if failure in FINAL:
        return Decision(retry=False)
    if failure in PREEMPTIONS:
        count, limit = sum(failures.get(kind, 0) for kind in PREEMPTIONS), policy.max_preemptions
    else:
        count, limit = failures[failure], policy.max_retries
    if count > limit:
        return Decision(retry=False)
    delay = min(policy.longest_delay_s, policy.first_delay_s * 2 ** min(count - 1, 30))
    return Decision(retry=True, delay_s=delay * (0.5 + 0.5 * jitter))
