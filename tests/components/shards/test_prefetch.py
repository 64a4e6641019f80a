"""Reading ahead: the same values in any order of asking, errors where they belong."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shards.prefetch import Prefetcher


@given(steps=st.lists(st.integers(0, 30), max_size=40), workers=st.integers(0, 3))
def test_any_step_gives_its_own_value_in_any_order(steps: list[int], workers: int):
    reader = Prefetcher(lambda step: step * step, workers)
    assert [reader.get(step) for step in steps] == [step * step for step in steps]
    reader.close()


def test_the_next_steps_are_read_before_they_are_asked_for():
    read, ready = [], threading.Event()

    def make(step: int) -> int:
        read.append(step)
        if len(read) == 3:
            ready.set()
        return step

    reader = Prefetcher(make, 2)
    reader.get(5)
    assert ready.wait(10)
    assert sorted(read) == [5, 6, 7]
    reader.close()


def test_an_error_comes_up_at_the_step_it_belongs_to():
    def make(step: int) -> int:
        if step == 3:
            raise ValueError("step 3")
        return step

    reader = Prefetcher(make, 2)
    assert [reader.get(step) for step in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="step 3"):
        reader.get(3)
    assert reader.get(4) == 4
    reader.close()
