"""Candidates, groups and clusters against plain definitions, in any order and any cut of the key range."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dedup.clusters import components_of
from components.dedup.groups import Grouping, group, url_key
from components.dedup.runs import even_ranges, key_ranges, read_all, read_range, sorted_by, write_run

ENTRIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=40, unique=True)
PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)
PAIR = {"first": np.int64, "second": np.int64}
SPREAD = 0x9E3779B97F4A7C15


def entries(rows: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Entries of a search: key and number; the order is that of the number, backwards."""
    return {
        "key": np.array([(key + 1) * SPREAD % (1 << 64) for key, _ in rows], dtype=np.uint64),
        "order": np.array([1000 - number for _, number in rows], dtype=np.uint64),
        "number": np.array([number for _, number in rows], dtype=np.int64),
    }


def grouped(search: str, runs: list[dict[str, np.ndarray]], parts: int) -> list[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"run-{number}.arrow" for number in range(len(runs))]
        for path, run in zip(paths, runs, strict=True):
            write_run(path, sorted_by(run, "key"))
        ranges = key_ranges(parts, 1)
        tables = [group(Grouping(search, paths, between, folder / f"{i}.arrow")) for i, between in enumerate(ranges)]
        found = read_all(tables, PAIR) if search == "near" else read_range(tables, (0, 1 << 64))
    first, second = list(found.values())[:2]
    return sorted(zip(first.tolist(), second.tolist(), strict=True))


@given(ENTRIES, st.integers(1, 5), st.integers(1, 4))
def test_candidates_are_all_pairs_with_a_key_in_common(rows: list[tuple[int, int]], parts: int, num_runs: int) -> None:
    wanted = {(a, b) for key, a in rows for other, b in rows if key == other and a < b}
    runs = [entries(rows[at::num_runs]) for at in range(num_runs)]
    assert set(grouped("near", runs, parts)) == wanted


@given(ENTRIES, st.integers(1, 5))
def test_a_passage_is_cut_from_all_but_the_best_of_those_that_have_it(rows: list[tuple[int, int]], parts: int) -> None:
    best = {key: max(number for other, number in rows if other == key) for key, _ in rows}
    wanted = sorted((number, (key + 1) * SPREAD % (1 << 64)) for key, number in rows if number != best[key])
    assert grouped("passages", [entries(rows)], parts) == wanted


@given(ENTRIES, st.integers(1, 5))
def test_equal_digests_have_the_best_as_their_head(rows: list[tuple[int, int]], parts: int) -> None:
    best = {key: max(number for other, number in rows if other == key) for key, _ in rows}
    table = entries(rows)
    table = {"key": table["key"], "rest": table["key"], **table}
    wanted = sorted((number, best[key]) for key, number in rows if number != best[key])
    assert grouped("exact", [table], parts) == wanted


@pytest.mark.parametrize("size", [21, 500])
def test_a_large_bucket_stays_connected_without_all_its_pairs(size: int) -> None:
    found = np.array(grouped("near", [entries([(0, number) for number in range(size)])], 1))
    assert len(found) < 2 * size
    assert (components_of(size, found[:, 0], found[:, 1]) == 0).all()


@given(PAIRS)
def test_clusters_are_the_connected_components_named_by_their_least_member(pairs: list[tuple[int, int]]) -> None:
    label = list(range(20))
    for _ in range(20):
        for first, second in pairs:
            label[first] = label[second] = min(label[first], label[second])
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    assert components_of(20, ends[:, 0], ends[:, 1]).tolist() == label


def test_a_long_chain_in_any_order_is_one_cluster() -> None:
    order = random.Random(1).sample(range(4999), 4999)
    first = np.array(order, dtype=np.int64)
    assert (components_of(5000, first, first + 1) == 0).all()


@given(st.lists(st.lists(st.integers(0, 1000), max_size=60), min_size=1, max_size=4), st.integers(1, 50))
def test_ranges_of_a_table_hold_each_row_once(columns: list[list[int]], rows_at_once: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.arrow" for number in range(len(columns))]
        for path, column in zip(paths, columns, strict=True):
            write_run(path, {"first": np.array(sorted(column), dtype=np.int64)})
        found = [read_range(paths, between)["first"].tolist() for between in even_ranges(paths, rows_at_once)]
    assert sorted(number for part in found for number in part) == sorted(number for one in columns for number in one)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://www.a.example/x/", "a.example/x"),
        ("http://a.example/x", "a.example/x"),
        ("http://a.example/", "a.example"),
        ("https://a.example", "a.example"),
        ("https://a.example/x?y=1", "a.example/x?y=1"),
        ("row 7", ""),
        ("ftp://a.example/x", ""),
        ("", ""),
    ],
)
def test_a_url_is_known_without_scheme_www_and_last_slash(url: str, key: str) -> None:
    assert url_key(url, variants=True) == key
    assert url_key(url, variants=False) in (url, "")
