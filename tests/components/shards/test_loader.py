"""The loader: a pure function of the step, each row once an epoch, every id a target once in validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import StepError
from components.shards.format import TokenShard, map_tokens, token_dtype, write_tokens
from components.shards.loader import TokenRows, inputs_and_targets
from components.tokenizer.special import BOS, EOS, PAD

documents_strategy = st.lists(st.lists(st.lists(st.integers(7, 4095), max_size=12), max_size=6), min_size=1, max_size=4)


def make_shard(documents: list[list[int]], dtype: str = "uint16") -> TokenShard:
    rows = [[BOS, *ids, EOS] for ids in documents]
    offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    values = np.array([token for row in rows for token in row], dtype=dtype)
    return TokenShard(
        pa.array([bytes([index]) * 16 for index in range(len(rows))], pa.binary(16)),
        pa.array(["en"] * len(rows), pa.string()),
        np.array([3 * len(ids) for ids in documents], dtype=np.uint32),
        offsets,
        values,
    )


def write_split(folder: Path, shards: list[list[list[int]]], dtype: str = "uint16") -> Path:
    for index, documents in enumerate(shards):
        write_tokens(folder / f"shard-{index:05d}.arrow", make_shard(documents, dtype))
    return folder


def numbered(count: int, length: int = 30) -> list[list[int]]:
    return [list(range(100 + 50 * index, 100 + 50 * index + length)) for index in range(count)]


def stream_of(shards: list[list[list[int]]]) -> list[int]:
    return [token for documents in shards for ids in documents for token in (BOS, *ids, EOS)]


@given(shards=documents_strategy, length=st.integers(1, 17))
def test_windows_are_slices_of_the_concatenated_documents(shards: list[list[list[int]]], length: int):
    rows = TokenRows([make_shard(documents) for documents in shards], length, seed=1)
    stream = stream_of(shards)
    assert rows.num_tokens == len(stream)
    assert rows.num_rows == max(0, len(stream) - 1) // length
    windows = rows.windows(np.arange(rows.num_rows))
    assert windows.tolist() == [stream[r * length : r * length + length + 1] for r in range(rows.num_rows)]


@given(shards=documents_strategy, length=st.integers(1, 17), batch_size=st.integers(1, 5))
def test_validation_scores_every_id_but_the_first_exactly_once(
    shards: list[list[list[int]]], length: int, batch_size: int
):
    rows = TokenRows([make_shard(documents) for documents in shards], length, seed=1)
    scored: list[int] = []
    for batch in rows.rows_sequential(batch_size):
        _, targets = inputs_and_targets(batch)
        scored += targets[targets != -100].tolist()
    assert scored == stream_of(shards)[1:]
    assert rows.num_bytes == sum(3 * len(ids) for documents in shards for ids in documents)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(shards=documents_strategy, length=st.integers(1, 9), batch_size=st.integers(1, 7), seed=st.integers(0, 99))
def test_each_epoch_serves_every_row_once(shards: list[list[list[int]]], length: int, batch_size: int, seed: int):
    rows = TokenRows([make_shard(documents) for documents in shards], length, seed)
    if not rows.num_rows:
        return
    for epoch in range(3):
        positions = np.arange(epoch * rows.num_rows, (epoch + 1) * rows.num_rows)
        assert sorted(rows.order(positions).tolist()) == list(range(rows.num_rows))
    steps = -(-2 * rows.num_rows // batch_size)
    served = np.concatenate([rows.batch(step, batch_size) for step in range(steps)])
    assert served.tolist() == rows.windows(rows.order(np.arange(steps * batch_size))).tolist()


def test_opening_anew_at_every_step_gives_the_same_batches(tmp_path: Path):
    folder = write_split(tmp_path, [numbered(5), numbered(7)])
    undisturbed = TokenRows.open(folder, length=8, seed=5)
    expected = [undisturbed.batch(step, 6).tolist() for step in range(25)]
    for step in reversed(range(25)):
        assert TokenRows.open(folder, length=8, seed=5).batch(step, 6).tolist() == expected[step]


def test_a_global_batch_does_not_depend_on_how_ranks_split_it(tmp_path: Path):
    rows = TokenRows.open(write_split(tmp_path, [numbered(9)]), length=8, seed=5)
    whole = rows.batch(4, 8)
    halves = [rows.windows(rows.order(np.arange(4 * 8 + first, 4 * 8 + first + 4))) for first in (0, 4)]
    assert np.concatenate(halves).tolist() == whole.tolist()


def test_another_seed_or_epoch_gives_another_order(tmp_path: Path):
    folder = write_split(tmp_path, [numbered(20)])
    rows, other = (TokenRows.open(folder, length=8, seed=seed) for seed in (1, 2))
    first, second = (np.arange(epoch * rows.num_rows, (epoch + 1) * rows.num_rows) for epoch in (0, 1))
    assert rows.order(first).tolist() != other.order(first).tolist()
    assert rows.order(first).tolist() != rows.order(second).tolist()


def test_rows_do_not_depend_on_the_number_of_shards(tmp_path: Path):
    documents = numbered(12)
    one = TokenRows.open(write_split(tmp_path / "one", [documents]), length=8, seed=5)
    many = TokenRows.open(write_split(tmp_path / "many", [documents[:5], [], documents[5:6], documents[6:]]), 8, 5)
    assert one.batch(3, 16).tolist() == many.batch(3, 16).tolist()


def test_a_limit_takes_the_first_documents_and_their_bytes(tmp_path: Path):
    rows = TokenRows.open(write_split(tmp_path, [numbered(3), numbered(4)]), length=8, seed=5, max_documents=5)
    assert rows.num_documents == 5
    assert rows.num_tokens == 5 * 32
    assert rows.num_bytes == 5 * 90


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_two_bytes_up_to_a_vocabulary_of_65536(tmp_path: Path, vocab_size: int, dtype: str):
    assert token_dtype(vocab_size) == dtype
    write_split(tmp_path, [[[vocab_size - 1] * 40]], dtype)
    assert map_tokens(tmp_path / "shard-00000.arrow").values.dtype == dtype
    assert vocab_size - 1 in TokenRows.open(tmp_path, length=8).batch(0, 4)


def test_shards_are_mapped_not_read(tmp_path: Path):
    shard = map_tokens(write_split(tmp_path, [numbered(3)]) / "shard-00000.arrow")
    assert not shard.values.flags.owndata
    assert not shard.values.flags.writeable


def test_a_truncated_shard_is_refused_with_its_name(tmp_path: Path):
    path = write_split(tmp_path, [numbered(50)]) / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StepError, match=r"shard-00000\.arrow"):
        TokenRows.open(tmp_path, length=8)


def test_a_split_too_small_for_one_row_is_refused_with_numbers(tmp_path: Path):
    with pytest.raises(StepError, match="1 documents of 32 tokens do not fill one row of 65"):
        TokenRows.open(write_split(tmp_path, [numbered(1)]), length=64)


def test_a_folder_without_shards_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="no token shards"):
        TokenRows.open(tmp_path, length=8)


def test_padding_is_never_a_target():
    inputs, targets = inputs_and_targets(np.array([[BOS, 9, EOS, PAD, PAD]]))
    assert inputs.tolist() == [[BOS, 9, EOS, PAD]]
    assert targets.tolist() == [[9, EOS, -100, -100]]
