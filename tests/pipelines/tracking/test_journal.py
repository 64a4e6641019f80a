"""A journal is read exactly once, however it is cut."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from components.channel import Channel
from pipelines.tracking import journal
from pipelines.tracking.journal import read_chunk, read_curves

values = st.floats(allow_nan=False)
names = st.text(min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.dictionaries(names, values, min_size=1, max_size=3), max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_every_metric_is_read_once_however_the_file_grows(
    tmp_path_factory: object, rows: list[dict[str, float]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("step")  # type: ignore[attr-defined]
    for step, row in enumerate(rows):
        Channel(folder).log(row, step)
    path = folder / "journal.jsonl"
    whole = path.read_bytes() if path.exists() else b""
    offset, found = 0, []
    for cut in [*sorted(cuts), len(whole)]:
        path.write_bytes(whole[:cut])
        chunk = read_chunk(path, offset)
        found += [(point.name, point.step, point.value) for point in chunk.points]
        offset = chunk.offset
    assert found == [(name, step, value) for step, row in enumerate(rows) for name, value in row.items()]


def test_values_that_are_no_numbers_survive(tmp_path: Path) -> None:
    Channel(tmp_path).log({"loss": math.nan, "bound": math.inf}, 3)
    loss, bound = read_chunk(tmp_path / "journal.jsonl", 0).points
    assert math.isnan(loss.value)
    assert bound.value == math.inf


def test_a_torn_line_is_counted_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind": "metr\n\xff\xfe\n[1]\n{"kind": "metrics", "values": {}}\n\n')
    Channel(tmp_path).log({"loss": 1.0}, 1)
    chunk = read_chunk(path, 0)
    assert chunk.damaged == 5
    assert [point.name for point in chunk.points] == ["loss"]


def test_a_line_longer_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    Channel(tmp_path).text("sample", "x" * (journal.CHUNK_BYTES + 10), 0)
    Channel(tmp_path).log({"loss": 1.0}, 1)
    assert read_curves(tmp_path / "journal.jsonl") == {"loss": [(1, 1.0)]}


def test_a_step_that_was_repeated_counts_with_its_last_value(tmp_path: Path) -> None:
    for step, loss in [(1, 5.0), (2, 4.0), (3, 9.0), (2, 4.0), (3, 3.0)]:
        Channel(tmp_path).log({"loss": loss}, step)
    assert read_curves(tmp_path / "journal.jsonl") == {"loss": [(1, 5.0), (2, 4.0), (3, 3.0)]}


def test_a_journal_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert read_chunk(tmp_path / "journal.jsonl", 0).offset == 0


Row = tuple[str, int, float]


def rows_of(path: Path, cuts: list[int]) -> list[Row]:
    """What is fresh, with a new reader at each cut."""
    offset, found = 0, []
    whole = path.read_bytes()
    for cut in [*sorted(cuts), len(whole)]:
        path.write_bytes(whole[:cut])
        repeats = journal.Repeats(path).skip(offset)
        while (chunk := read_chunk(path, offset, 100)).offset > offset:
            found += [(point.name, point.step, point.value) for point in repeats.fresh(chunk.points, offset)]
            offset = chunk.offset
    return found


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.sampled_from([0.5, math.nan, 2.0]))),
    cuts=st.lists(st.integers(0, 2000), max_size=4),
)
def test_a_point_is_fresh_unless_the_last_one_of_its_step_said_the_same(
    tmp_path_factory: object, rows: list[Row], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("step")  # type: ignore[attr-defined]
    folder.joinpath("journal.jsonl").touch()
    said: dict[tuple[str, int], str] = {}
    expected = []
    for name, step, value in rows:
        Channel(folder).log({name: value}, step)
        if said.get((name, step)) != str(value):
            expected.append((name, step, value))
        said[name, step] = str(value)
    assert str(rows_of(folder / "journal.jsonl", cuts)) == str(expected)


def test_the_last_point_of_a_curve_is_the_first_line_that_said_it(tmp_path: Path) -> None:
    for step, loss in [(1, 5.0), (2, 4.0), (1, 5.0), (2, 4.0)]:
        Channel(tmp_path).log({"loss": loss}, step)
    first = read_chunk(tmp_path / "journal.jsonl", 0).points[1]
    assert journal.read_last(tmp_path / "journal.jsonl") == {"loss": first}
