"""Counting pieces: exact, whatever the shards, the order and the memory."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.documents import Document, Outcome, make_doc_id, write_shard
from components.tokenizer.counting import (
    Share,
    count_share,
    count_texts,
    fair_sample,
    iter_table,
    limits_of,
    merge_tables,
    text_bytes,
    write_table,
)
from components.tokenizer.pieces import cut_of


def write_texts(folder: Path, texts: list[str]) -> Path:
    rows = [Document(make_doc_id("t", str(n), b""), "t", str(n), "en", "", text) for n, text in enumerate(texts)]
    write_shard(folder, 0, Outcome(rows))
    return folder / "documents" / "shard-00000.arrow"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "word", "character"])
@given(text=st.text(max_size=200))
def test_the_pieces_of_a_text_are_the_text(kind: str, text: str):
    assert "".join(cut_of(kind)(text)) == text


def test_jieba_pieces_of_a_text_are_the_text(make_sentences):
    pytest.importorskip("jieba", reason="the optional package jieba is not installed")
    text = "".join(make_sentences(40))
    assert "".join(cut_of("word", "jieba")(text)) == text


@pytest.mark.parametrize("most_held", [1, 3, 1_000_000])
def test_a_worker_that_holds_few_pieces_counts_the_same(tmp_path: Path, make_sentences, most_held: int):
    texts = make_sentences(60)
    shard = write_texts(tmp_path, texts)
    part = count_share(Share(shard, tmp_path / "table.arrow", 10**9, "bpe", "none", most_held))
    assert list(iter_table(tmp_path / "table.arrow")) == count_texts(texts, "bpe")
    assert part == {"documents": 60, "bytes": sum(len(text.encode()) for text in texts)}


@pytest.mark.parametrize("most_chars", [1, 200, 10**9])
def test_a_worker_that_holds_few_characters_counts_the_same(tmp_path: Path, make_sentences, most_chars: int):
    texts = make_sentences(60)
    shard = write_texts(tmp_path, texts)
    count_share(Share(shard, tmp_path / "table.arrow", 10**9, "bpe", "none", most_held_chars=most_chars))
    assert list(iter_table(tmp_path / "table.arrow")) == count_texts(texts, "bpe")


def test_long_pieces_are_written_before_they_fill_memory(tmp_path: Path):
    texts = [chr(0x4E00 + number) * 100 for number in range(40)]
    count_share(Share(write_texts(tmp_path, texts), tmp_path / "t.arrow", 10**9, "bpe", "none", most_held_chars=1000))
    written = [list(iter_table(tmp_path / f"t-part-{number}.arrow")) for number in range(4)]
    assert [sum(len(piece) for piece, _ in table) for table in written] == [1000] * 4


def test_a_worker_stops_with_the_document_that_reaches_its_limit(tmp_path: Path):
    shard = write_texts(tmp_path, ["河" * 10] * 8)
    assert count_share(Share(shard, tmp_path / "t.arrow", 61, "bpe", "none")) == {"documents": 3, "bytes": 90}


def test_the_bytes_of_a_shard_are_those_of_its_texts(tmp_path: Path):
    assert text_bytes(write_texts(tmp_path, ["abc", "河水", "", "é"])) == 3 + 6 + 0 + 2
    assert text_bytes(write_texts(tmp_path / "none", [])) == 0


@given(sizes=st.lists(st.integers(0, 1000)), train_bytes=st.integers(1, 5000))
def test_limits_spend_the_bytes_on_the_first_shards(sizes: list[int], train_bytes: int):
    limits = limits_of(sizes, train_bytes)
    assert sum(limits) == min(sum(sizes), train_bytes)
    after_the_first_cut = [limit for at, limit in enumerate(limits) if limits[:at] != sizes[:at]]
    assert not any(after_the_first_cut)


@pytest.mark.parametrize("count", [1, 3, 40, 300])
def test_tables_add_up_whatever_their_number(tmp_path: Path, count: int):
    draw = random.Random(count)
    tables = [Counter(draw.choices("abcdefgh河水山", k=20)) for _ in range(count)]
    for number, table in enumerate(tables):
        write_table(tmp_path / f"{number}.arrow", sorted(table.items()))
    merge_tables([tmp_path / f"{number}.arrow" for number in range(count)], tmp_path / "all.arrow")
    assert list(iter_table(tmp_path / "all.arrow")) == sorted(sum(tables, Counter()).items())


def test_a_table_that_fits_is_taken_as_it_is(tmp_path: Path):
    write_table(tmp_path / "t.arrow", [("a", 2), ("b", 5), ("河", 1)])
    sample = fair_sample(tmp_path / "t.arrow", tmp_path / "s.arrow", 5)
    assert (sample.path, sample.told()) == (tmp_path / "t.arrow", "3 pieces")
    assert not (tmp_path / "s.arrow").exists()


@given(
    entries=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 4)), min_size=1, max_size=40),
    limit=st.integers(1, 90),
)
def test_a_sample_fits_keeps_the_order_and_the_counts_of_frequent_pieces(
    tmp_path_factory, entries: list[tuple[int, int]], limit: int
):
    folder = tmp_path_factory.mktemp("table")
    table = [(chr(0x4E00 + number) * length, count) for number, (count, length) in enumerate(entries)]
    write_table(folder / "t.arrow", table)
    sample = fair_sample(folder / "t.arrow", folder / "s.arrow", limit)
    kept, counts = list(iter_table(sample.path)), dict(table)
    names = {piece for piece, _ in kept}
    assert sum(len(piece.encode()) for piece, _ in kept) <= max(limit, 0)
    assert [piece for piece, _ in kept] == [piece for piece, _ in table if piece in names]
    assert (sample.num_pieces, sample.left_out) == (len(kept), len(table) - len(kept))
    raised = {count for piece, count in kept if count != counts[piece]}
    assert not raised or max(raised) - min(raised) <= 1  # the least that a kept piece counts, rounded either way
    assert all(counts[piece] <= count for piece, count in kept)


def test_a_sample_stands_for_the_whole(tmp_path: Path):
    draw = random.Random(5)
    kinds = {"frequent": (400, 300), "rare": (30_000, 3), "single": (60_000, 1)}
    table = [
        (f"{kind}{number}", draw.randint(1, 2 * most - 1))
        for kind, (size, most) in kinds.items()
        for number in range(size)
    ]
    write_table(tmp_path / "t.arrow", sorted(table))
    sample = fair_sample(tmp_path / "t.arrow", tmp_path / "s.arrow", 200_000)
    kept = list(iter_table(sample.path))
    for kind in kinds:
        true, estimated = (
            sum(count for piece, count in entries if piece.startswith(kind)) for entries in (table, kept)
        )
        assert estimated == pytest.approx(true, rel=0.03), kind
    gone = dict(table).keys() - dict(kept).keys()
    share = sum(count for piece, count in table if piece in gone) / sum(count for _, count in table)
    assert sample.share_left_out == pytest.approx(share)
    assert 0.9 * 200_000 < sum(len(piece) for piece, _ in kept) <= 200_000


def test_a_very_long_run_is_counted_in_parts(tmp_path: Path):
    text = "河" * 5000 + " " + "=" * 2500
    pieces = list(cut_of("bpe")(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) == 1024
