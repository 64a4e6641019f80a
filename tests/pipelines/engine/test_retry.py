"""Failures of the machine are retried, failures of the work are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.retry import FailureClass, RetryPolicy, decide

POLICY = RetryPolicy(max_retries=2, first_delay_s=1.0, longest_delay_s=10.0)
RETRIED: list[FailureClass] = ["crash", "stalled", "out_of_memory"]
FINAL: list[FailureClass] = ["error", "timed_out", "pending"]


@pytest.mark.parametrize("failure", RETRIED)
def test_a_machine_failure_gets_the_configured_retries(failure: FailureClass):
    decisions = [decide(failure, {failure: count}, POLICY, 0.0).retry for count in (1, 2, 3)]
    assert decisions == [True, True, False]


@pytest.mark.parametrize("failure", FINAL)
def test_what_another_attempt_would_only_meet_again_is_never_retried(failure: FailureClass):
    assert not decide(failure, {failure: 1}, POLICY, 0.0).retry


def test_lost_and_taken_nodes_share_a_budget_of_their_own():
    policy = RetryPolicy(max_retries=0, max_preemptions=3)
    counts: dict[FailureClass, int] = {"preempted": 2, "node_lost": 1}
    assert decide("preempted", counts, policy, 0.0).retry
    assert not decide("preempted", {**counts, "node_lost": 2}, policy, 0.0).retry
    assert not decide("crash", {**counts, "crash": 1}, policy, 0.0).retry


def test_one_class_leaves_the_budget_of_another_alone():
    assert decide("crash", {"crash": 1, "node_lost": 9}, POLICY, 0.0).retry


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_delays_grow_up_to_the_cap_and_keep_half_of_it(count: int, jitter: float):
    policy = RetryPolicy(max_retries=100, first_delay_s=1.0, longest_delay_s=10.0)
    delay = decide("crash", {"crash": count}, policy, jitter).delay_s
    whole = min(10.0, 2.0 ** (count - 1))
    assert whole / 2 <= delay < whole
