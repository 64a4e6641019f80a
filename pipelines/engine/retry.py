"""Which failures are worth another attempt, and when: a pure function, so that every case can be tested.

What the machine did to a step (its process was killed, its node went away, the kernel took its memory) may not happen
again; what the step said about its data, its settings or its code will. Each class has its own count, so that a few
lost nodes do not use up the attempts a crash would get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

FailureClass: TypeAlias = Literal["crash", "node_lost", "out_of_memory", "error"]

REASONS: Mapping[FailureClass, str] = {
    "crash": "its process died",
    "node_lost": "its node was lost",
    "out_of_memory": "it was killed for its memory",
    "error": "it raised an error",
}


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon.

    Attributes:
        max_retries: Attempts after the first, for each class of failure that is retried.
        first_delay_s: Seconds before the first retry; doubled for each further one.
        longest_delay_s: Cap of the delay.
    """

    max_retries: int = 2
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
    count = failures[failure]
    if failure == "error" or count > policy.max_retries:
        return Decision(retry=False)
    delay = min(policy.longest_delay_s, policy.first_delay_s * 2 ** (count - 1))
    return Decision(retry=True, delay_s=delay * (0.5 + 0.5 * jitter))
