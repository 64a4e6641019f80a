"""The documents layout: what is written is read back, shards follow from ids alone, nothing vanishes."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.documents import (
    DOCUMENTS,
    DROPPED,
    FAN_IN,
    Document,
    Dropped,
    Outcome,
    ShardWriter,
    condense,
    dropped_paths,
    iter_ledger,
    iter_shard,
    make_doc_id,
    merge_documents,
    merge_dropped,
    read_documents,
    read_dropped,
    read_shard,
    shard_of,
    shard_paths,
    write_shard,
    write_summary,
)

LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
IDS = st.binary(min_size=16, max_size=16)
DOCUMENT = st.builds(
    Document,
    doc_id=IDS,
    source=LINES,
    url=LINES,
    lang=st.sampled_from(["en", "zh"]),
    title=LINES,
    text=LINES,
    script=st.sampled_from(["", "Latn", "Hans"]),
    date=st.sampled_from(["", "2024-02-29"]),
    licence=LINES,
    opt_out=LINES,
    quality=st.none() | st.floats(0, 1),
    cluster=st.just(b"") | IDS,
    cluster_size=st.integers(1, 1 << 30),
)
DROPPED_ROW = st.builds(Dropped, IDS, LINES, st.sampled_from(["min_chars", "language"]), LINES, LINES)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outcome(count: int) -> Outcome:
    kept = [Document(make_doc_id("web", f"u{i}", b""), "web", f"u{i}", "en", "t", f"text {i}") for i in range(count)]
    dropped = [Dropped(make_doc_id("web", f"d{i}", b""), f"d{i}", "min_chars", "3", "100") for i in range(count // 3)]
    return Outcome(kept, dropped)


def write(folder: Path, rows: Outcome, num_shards: int) -> dict[str, object]:
    parts = []
    for index in range(num_shards):
        mine = Outcome(
            [row for row in rows.kept if shard_of(row.doc_id, num_shards) == index],
            [row for row in rows.dropped if shard_of(row.doc_id, num_shards) == index],
        )
        parts.append(write_shard(folder, index, mine))
    return write_summary(folder, parts)


@given(kept=st.lists(DOCUMENT, max_size=8), dropped=st.lists(DROPPED_ROW, max_size=8))
def test_a_shard_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, kept: list[Document], dropped: list[Dropped]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    write_shard(folder, 0, Outcome(list(kept), list(dropped)))
    assert read_shard(shard_paths(folder)[0]) == sorted(kept, key=lambda row: row.doc_id)
    assert sorted(map(repr, read_dropped(folder))) == sorted(map(repr, dropped))


def test_the_bytes_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = outcome(50)
    write(tmp_path / "a", rows, 4)
    random.Random(3).shuffle(rows.kept)
    random.Random(4).shuffle(rows.dropped)
    write(tmp_path / "b", rows, 4)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


@given(doc_id=IDS, num_shards=st.integers(1, 5000))
def test_a_document_has_one_shard_and_order_is_kept_across_shards(doc_id: bytes, num_shards: int) -> None:
    index = shard_of(doc_id, num_shards)
    assert 0 <= index < num_shards
    assert shard_of(doc_id[:4] + b"\xff" * 12, num_shards) == index
    assert shard_of(b"\xff" * 16, num_shards) == num_shards - 1


def test_documents_come_in_the_order_of_their_ids_however_many_shards_there_are(tmp_path: Path) -> None:
    write(tmp_path / "one", outcome(40), 1)
    write(tmp_path / "seven", outcome(40), 7)
    assert list(read_documents(tmp_path / "one")) == list(read_documents(tmp_path / "seven"))


def test_the_summary_counts_every_row_once(tmp_path: Path) -> None:
    summary = write(tmp_path, outcome(60), 5)
    assert summary["read"] == 80
    assert summary["kept"] == len(list(read_documents(tmp_path))) == 60
    assert summary["dropped"] == {"min_chars": len(read_dropped(tmp_path))} == {"min_chars": 20}
    assert summary["languages"] == {"en": 60}
    assert summary["chars"] == sum(len(document.text) for document in read_documents(tmp_path))


@pytest.mark.parametrize(("have", "want"), [(1, 6), (6, 1), (3, 7)])
def test_rows_of_a_shard_are_found_however_the_artifact_is_sharded(tmp_path: Path, have: int, want: int) -> None:
    rows = outcome(50)
    write(tmp_path, rows, have)
    kept = [list(merge_documents(shard_paths(tmp_path), index, want)) for index in range(want)]
    dropped = [list(merge_dropped(dropped_paths(tmp_path), index, want)) for index in range(want)]
    assert [row for part in kept for row in part] == sorted(rows.kept, key=lambda row: row.doc_id)
    assert sorted(row.url for part in dropped for row in part) == sorted(row.url for row in rows.dropped)
    assert all(shard_of(row.doc_id, want) == index for index, part in enumerate(kept) for row in part)


def test_many_sorted_files_are_condensed_to_a_few_with_the_same_rows(tmp_path: Path) -> None:
    rows = outcome(300)
    for number in range(2 * FAN_IN + 5):
        mine = Outcome(rows.kept[number :: 2 * FAN_IN + 5], rows.dropped[number :: 2 * FAN_IN + 5])
        write_shard(tmp_path / f"wave-{number}", 0, mine)
    waves = sorted(tmp_path.glob("wave-*"))
    kept = condense([path for wave in waves for path in shard_paths(wave)], tmp_path / "kept", DOCUMENTS)
    dropped = condense([path for wave in waves for path in dropped_paths(wave)], tmp_path / "dropped", DROPPED)
    assert len(kept) == len(dropped) == 3
    assert list(merge_documents(kept, 0, 1)) == sorted(rows.kept, key=lambda row: row.doc_id)
    assert list(merge_dropped(dropped, 0, 1)) == sorted(rows.dropped, key=lambda row: row.doc_id)


def test_a_long_shard_is_cut_into_batches_and_read_back_whole(tmp_path: Path) -> None:
    rows = outcome(2500)
    write_shard(tmp_path, 0, rows)
    [path] = shard_paths(tmp_path)
    with pa.memory_map(str(path)) as source:
        assert pa.ipc.open_file(source).num_record_batches == 3
    assert list(iter_shard(path)) == sorted(rows.kept, key=lambda row: row.doc_id)
    assert len(list(iter_ledger(dropped_paths(tmp_path)[0]))) == len(rows.dropped)


def test_rows_out_of_order_are_refused_and_nothing_is_published(tmp_path: Path) -> None:
    first, second = sorted(outcome(2).kept, key=lambda row: row.doc_id)

    def write_backwards() -> None:
        with ShardWriter(tmp_path, 0) as writer:
            writer.keep(second)
            writer.keep(first)

    with pytest.raises(ValueError, match="comes after a greater row"):
        write_backwards()
    assert not list(tmp_path.rglob("*.arrow"))


@given(st.tuples(LINES, LINES, st.binary(max_size=20)), st.tuples(LINES, LINES, st.binary(max_size=20)))
def test_ids_differ_unless_source_url_and_bytes_are_the_same(
    first: tuple[str, str, bytes], second: tuple[str, str, bytes]
) -> None:
    assert (make_doc_id(*first) == make_doc_id(*second)) == (first == second)
