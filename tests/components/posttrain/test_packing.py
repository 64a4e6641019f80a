"""Packing: every item once, no row overfull, and the same rows whoever asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.posttrain.packing import PackedRows, pack

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=120)


@given(LENGTHS)
def test_every_item_lies_in_one_row_and_no_row_is_overfull(lengths):
    rows = pack(lengths, range(len(lengths)), 40)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[item] for item in row) <= 40 for row in rows)


@given(LENGTHS, st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_the_order_of_the_items(lengths, source):
    order = list(range(len(lengths)))
    source.shuffle(order)
    assert pack(lengths, order, 40) == pack(lengths, range(len(lengths)), 40)


@given(LENGTHS)
def test_two_rows_never_fit_into_one(lengths):
    sizes = [sum(lengths[item] for item in row) for row in pack(lengths, range(len(lengths)), 40)]
    smallest = sorted(sizes)[:2]
    assert len(smallest) < 2 or sum(smallest) > 40


def test_an_item_goes_to_the_fullest_row_that_has_room():
    assert pack([7, 6, 3], range(3), 10) == [[0, 2], [1]]


@pytest.mark.parametrize("length", [0, 11])
def test_an_item_that_is_empty_or_longer_than_a_row_is_refused(length):
    with pytest.raises(ValueError, match="item 1"):
        pack([3, length], range(2), 10)


@given(LENGTHS, st.integers(0, 2**60))
def test_every_epoch_holds_every_item_once(lengths, seed):
    rows = PackedRows(lengths, 40, seed)
    position = 0
    for epoch in range(3):
        seen: list[int] = []
        while rows.epochs(position) < epoch + 1:
            seen += rows.row(position)
            position += 1
        assert sorted(seen) == list(range(len(lengths)))


def test_a_row_is_a_function_of_its_position():
    lengths = [1 + (7 * index) % 30 for index in range(200)]
    forwards = PackedRows(lengths, 40, 5)
    expected = [forwards.row(position) for position in range(400)]
    other = PackedRows(lengths, 40, 5)
    assert [other.row(position) for position in (399, 0, 250, 7)] == [expected[at] for at in (399, 0, 250, 7)]
    assert [PackedRows(lengths, 40, 6).row(position) for position in range(400)] != expected


def test_epochs_mix_differently():
    lengths = [1 + (7 * index) % 30 for index in range(3000)]
    rows = PackedRows(lengths, 40, 5)
    per_epoch = next(position for position in range(5000) if rows.epochs(position) >= 1)
    first = {tuple(sorted(rows.row(position))) for position in range(per_epoch)}
    second = {tuple(sorted(rows.row(position))) for position in range(per_epoch, per_epoch + 500)}
    assert len(first & second) < 250


def test_rows_of_dialogues_are_nearly_full():
    lengths = [5 + (37 * index) % 60 for index in range(2000)]
    rows = pack(lengths, range(2000), 128)
    assert sum(lengths) / (128 * len(rows)) > 0.98
