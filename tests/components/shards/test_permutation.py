"""The keyed permutation: one to one for every size, different for every key."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.shards.permutation import permute, unpermute


@given(size=st.integers(1, 3000), key=st.integers(0, 2**63 - 1))
def test_every_row_appears_exactly_once(size: int, key: int):
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


@given(size=st.integers(2**40, 2**50), key=st.integers(0, 2**63 - 1), start=st.integers(0, 2**39))
def test_no_two_positions_share_a_row_in_domains_too_large_to_list(size: int, key: int, start: int):
    rows = permute(np.arange(start, start + 500), size, key)
    assert len(set(rows.tolist())) == 500
    assert rows.min() >= 0
    assert rows.max() < size


@given(size=st.integers(1, 10**9), key=st.integers(0, 2**63 - 1), data=st.data())
def test_a_row_depends_on_its_own_position_alone(size: int, key: int, data: st.DataObject):
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    one_by_one = [permute(positions[[place]], size, key)[0] for place in range(len(positions))]
    assert permute(positions, size, key).tolist() == one_by_one


@given(size=st.integers(1, 10**12), key=st.integers(0, 2**63 - 1), data=st.data())
def test_walking_back_gives_the_position(size: int, key: int, data: st.DataObject):
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)))
    assert unpermute(permute(positions, size, key), size, key).tolist() == positions.tolist()
    assert permute(unpermute(positions, size, key), size, key).tolist() == positions.tolist()


def test_keys_give_orders_that_look_unrelated():
    first, second = (permute(np.arange(10_000), 10_000, key) for key in (1, 2))
    assert (first == second).sum() < 20
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05


def test_all_orders_of_three_rows_are_about_equally_frequent():
    orders = [tuple(permute(np.arange(3), 3, key).tolist()) for key in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 140
