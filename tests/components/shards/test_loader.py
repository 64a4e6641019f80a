"""The loader: a pure function of the step, each row once an epoch, every id a target once in validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StepError
from components.shards.corpus import Spans, TokenSplit
from components.shards.format import BATCH_DOCUMENTS, map_tokens, token_dtype
from components.shards.loader import Loader, RowBatch, TokenRows, inputs_and_targets
from components.shards.permutation import permute
from components.shards.plan import concat_plan
from components.shards.schedule import Schedule
from components.tokenizer.special import BOS, EOS, PAD
from tests.components.shards.toy import Toy, numbered, row_of, varied, write_tokens

shards_strategy = st.lists(
    st.lists(st.lists(st.integers(7, 4095), max_size=12).map(Toy), max_size=6), min_size=1, max_size=4
)


def stream_of(shards: list[list[Toy]]) -> list[int]:
    return [token for documents in shards for toy in documents for token in row_of(toy)]


def open_loader(tokens: Path, length: int = 8, batch_size: int = 6, seed: int = 5) -> Loader:
    return Loader.open(tokens, Schedule(seed, batch_size, length))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "tokens", train=[numbered(5), numbered(7)], val=[numbered(3), numbered(4)])


@given(shards=shards_strategy, length=st.integers(1, 17))
def test_windows_are_slices_of_the_concatenated_documents(tmp_path_factory, shards: list[list[Toy]], length: int):
    split = TokenSplit.open(write_tokens(tmp_path_factory.mktemp("tokens"), train=shards), "train")
    rows, stream = TokenRows(split, length), stream_of(shards)
    assert rows.num_tokens == len(stream)
    wanted = [stream[start : start + length + 1] for start in range(0, max(0, len(stream) - 1), length)]
    found = rows.windows(np.arange(len(wanted))).tolist()
    assert found == [row + [PAD] * (length + 1 - len(row)) for row in wanted]


@given(shards=shards_strategy, length=st.integers(1, 17), batch_size=st.integers(1, 5))
def test_validation_scores_every_id_but_the_first_exactly_once(
    tmp_path_factory, shards: list[list[Toy]], length: int, batch_size: int
):
    split = TokenSplit.open(write_tokens(tmp_path_factory.mktemp("tokens"), val=shards), "val")
    rows = TokenRows(split, length)
    scored: list[int] = []
    for batch in rows.rows_sequential(batch_size):
        _, targets = inputs_and_targets(batch)
        scored += targets[targets != -100].tolist()
    assert scored == stream_of(shards)[1:]
    assert rows.num_bytes == sum(3 * len(toy.ids) for documents in shards for toy in documents)


@given(shards=shards_strategy, length=st.integers(1, 9), batch_size=st.integers(1, 7), seed=st.integers(0, 99))
def test_each_epoch_serves_every_row_once(
    tmp_path_factory, shards: list[list[Toy]], length: int, batch_size: int, seed: int
):
    stream = stream_of(shards)
    num_rows = max(0, len(stream) - 1) // length
    if not num_rows:
        return
    loader = open_loader(write_tokens(tmp_path_factory.mktemp("tokens"), train=shards), length, batch_size, seed)
    steps = -(-3 * num_rows // batch_size)
    served = np.concatenate([loader.batch(step).ids for step in range(steps)]).tolist()
    expected = sorted(stream[row * length : row * length + length + 1] for row in range(num_rows))
    for epoch in range(3):
        assert sorted(served[epoch * num_rows : (epoch + 1) * num_rows]) == expected


def test_the_order_of_one_group_is_the_permutation_of_its_epoch(tokens: Path):
    loader = open_loader(tokens, length=8, batch_size=4, seed=5)
    from components.context import derive_seed

    places = np.arange(loader.num_rows)
    expected = [permute(places, loader.num_rows, derive_seed("rows", 5, epoch)).tolist() for epoch in (0, 1)]
    _, rows = loader.order.rows(0, 2 * loader.num_rows)
    assert rows.tolist() == [*expected[0], *expected[1]]


def test_opening_anew_at_every_step_gives_the_same_batches(tokens: Path):
    undisturbed = open_loader(tokens)
    expected = [undisturbed.batch(step).ids.tolist() for step in range(25)]
    for step in reversed(range(25)):
        assert open_loader(tokens).batch(step).ids.tolist() == expected[step]


def test_a_global_batch_does_not_depend_on_how_ranks_split_it(tokens: Path):
    loader = open_loader(tokens, batch_size=8)
    whole = loader.batch(4).ids
    for world in (1, 2, 4, 8):
        share = 8 // world
        parts = [loader.batch(4, rank * share, (rank + 1) * share).ids for rank in range(world)]
        assert np.concatenate(parts).tolist() == whole.tolist()


def test_another_seed_or_epoch_gives_another_order(tmp_path: Path):
    tokens = write_tokens(tmp_path, train=[numbered(20)])
    one, other = (open_loader(tokens, seed=seed) for seed in (1, 2))
    num_rows = one.num_rows
    assert one.order.rows(0, num_rows)[1].tolist() != other.order.rows(0, num_rows)[1].tolist()
    assert one.order.rows(0, num_rows)[1].tolist() != one.order.rows(num_rows, 2 * num_rows)[1].tolist()


def test_rows_do_not_depend_on_the_number_of_shards(tmp_path: Path):
    toys = numbered(12)
    one = write_tokens(tmp_path / "one", train=[toys])
    many = write_tokens(tmp_path / "many", train=[toys[:5], [], toys[5:6], toys[6:]])
    assert (
        open_loader(one, batch_size=16).batch(3).ids.tolist() == open_loader(many, batch_size=16).batch(3).ids.tolist()
    )


def test_a_shard_of_many_record_batches_reads_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toys = varied(200, seed=1)
    whole = open_loader(write_tokens(tmp_path / "whole", train=[toys]))
    monkeypatch.setattr("components.shards.format.BATCH_TOKENS", 50)
    cut = open_loader(write_tokens(tmp_path / "cut", train=[toys]))
    assert len(cut.split.batches) > 10 > len(whole.split.batches)
    assert BATCH_DOCUMENTS > 200
    for step in range(20):
        assert cut.batch(step).ids.tolist() == whole.batch(step).ids.tolist()


def test_a_limit_takes_the_first_documents_and_their_bytes(tokens: Path):
    rows = TokenRows.open(tokens / "val", length=8, max_documents=5)
    assert rows.num_documents == 5
    assert rows.num_tokens == 5 * 32
    assert rows.num_bytes == 5 * 90


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_two_bytes_up_to_a_vocabulary_of_65536(tmp_path: Path, vocab_size: int, dtype: str):
    assert token_dtype(vocab_size) == dtype
    write_tokens(tmp_path, dtype, train=[[Toy([vocab_size - 1] * 40)]])
    [batch] = map_tokens(tmp_path / "train" / "shard-00000.arrow")
    assert batch.values.dtype == dtype
    assert vocab_size - 1 in open_loader(tmp_path).batch(0).ids


def test_shards_are_mapped_not_read(tokens: Path):
    [batch] = map_tokens(tokens / "train" / "shard-00000.arrow")
    assert not batch.values.flags.owndata
    assert not batch.values.flags.writeable


def test_a_split_too_small_for_one_row_is_refused_with_numbers(tmp_path: Path):
    tokens = write_tokens(tmp_path, train=[numbered(1)], val=[numbered(1)])
    with pytest.raises(StepError, match="1 documents of 32 tokens do not fill one row of 65"):
        open_loader(tokens, length=64)
    with pytest.raises(StepError, match="1 documents of 32 tokens do not fill one row of 65"):
        TokenRows.open(tokens / "val", length=64)


def test_a_folder_without_shards_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="no token shards"):
        TokenRows.open(tmp_path / "nowhere", length=8)


def test_padding_is_never_a_target():
    inputs, targets = inputs_and_targets(np.array([[BOS, 9, EOS, PAD, PAD]]))
    assert inputs.tolist() == [[BOS, 9, EOS, PAD]]
    assert targets.tolist() == [[9, EOS, -100, -100]]


def test_a_row_knows_its_documents_their_positions_and_its_targets():
    ids = np.array([[30, 31, EOS, BOS, 40, EOS, PAD, PAD], [BOS, 50, EOS, 61, 62, 63, 64, EOS]])
    zeros = np.zeros(4, np.int64)
    spans = Spans(np.array([0, 0, 1, 1]), np.array([0, 3, 0, 3]), zeros, np.array([3, 3, 3, 5]))
    rows = RowBatch(ids, spans)
    assert rows.tokens.tolist() == ids[:, :-1].tolist()
    assert rows.documents.tolist() == [[0, 0, 0, 1, 1, 1, -1], [0, 0, 0, 1, 1, 1, 1]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 1, 2, 3]]
    assert rows.targets.tolist() == [[31, EOS, BOS, 40, EOS, -100, -100], [50, EOS, -100, 62, 63, 64, EOS]]
    assert rows.cu_seqlens.tolist() == [0, 3, 6, 7, 10, 14]


@given(shards=shards_strategy, length=st.integers(2, 17))
def test_the_pieces_of_rows_are_their_documents(tmp_path_factory, shards: list[list[Toy]], length: int):
    split = TokenSplit.open(write_tokens(tmp_path_factory.mktemp("tokens"), train=shards), "train")
    if split.num_tokens <= length:
        return
    rows = Loader(split, concat_plan(split, length), Schedule(1, 4, length)).batch(0)
    flat, ends = rows.tokens.reshape(-1), rows.cu_seqlens
    assert (ends[0], ends[-1]) == (0, flat.size)
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        assert BOS not in flat[start + 1 : end]
        assert EOS not in flat[start : end - 1]
        assert rows.positions.reshape(-1)[start:end].tolist() == list(range(end - start))
        assert len(set(rows.documents.reshape(-1)[start:end].tolist())) == 1
