"""The tokens step: every document once, on one side of the split, whatever the shards and the interruptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.context import LocalContext, local_context
from components.documents import Document, Outcome, make_doc_id, read_doc_ids, read_documents, shard_of, write_shard
from components.errors import ConfigError, Preempted, StepError
from components.publish import read_json, sha256_of
from components.shards.config import TokensConfig
from components.shards.corpus import TokenSplit
from components.shards.format import SPLITS
from components.shards.loader import TokenRows
from components.shards.split import Head, HeadOf, find_limits, split_hash
from components.shards.step import tokens
from components.tokenizer.load import TextTokenizer
from components.tokenizer.train import train_bpe

T = TypeVar("T")
R = TypeVar("R")


def make_documents(count: int) -> list[Document]:
    texts = [f"River {number} is long. 第{number}条河很长。" for number in range(count)]
    return [
        Document(make_doc_id("test", f"u{number}", text.encode()), "test", f"u{number}", "en", "", text)
        for number, text in enumerate(texts)
    ]


def write_documents(folder: Path, rows: list[Document], num_shards: int) -> Path:
    for shard in range(num_shards):
        write_shard(folder, shard, Outcome([row for row in rows if shard_of(row.doc_id, num_shards) == shard]))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([document.text for document in make_documents(30)], 290, 2).save(str(folder / "tokenizer.json"))
    return folder


def context(folder: Path, config: TokensConfig) -> LocalContext:
    return local_context("tokens", folder, config.seed)


def run(folder: Path, documents: Path, tokenizer: Path, config: TokensConfig) -> dict[str, float]:
    return tokens(context(folder, config), config, documents=documents, tokenizer=tokenizer)


def digests(output: Path) -> dict[str, str]:
    return {str(path.relative_to(output)): sha256_of(path) for path in sorted(output.rglob("*.*"))}


def read_texts(folder: Path, tokenizer: TextTokenizer) -> dict[bytes, str]:
    texts = {}
    for batch in TokenSplit.open(folder.parent, folder.name).batches:
        for number, doc_id in enumerate(batch.doc_ids.to_pylist()):
            ids = batch.values[batch.offsets[number] : batch.offsets[number + 1]].tolist()
            assert (ids[0], ids[-1]) == (1, 2)
            texts[doc_id] = tokenizer.decode(ids)
            assert len(texts[doc_id].encode()) == batch.num_bytes[number]
    return texts


def test_every_document_is_on_exactly_one_side_and_comes_back_whole(tmp_path: Path, tokenizer: Path):
    documents = write_documents(tmp_path / "documents", make_documents(60), 3)
    metrics = run(tmp_path / "step", documents, tokenizer, TokensConfig(val_fraction=0.3))
    loaded = TextTokenizer.from_folder(tokenizer)
    sides = {split: read_texts(tmp_path / "step" / "output" / split, loaded) for split in SPLITS}
    assert sum(map(len, sides.values())) == 60
    together = sides["train"] | sides["val"] | sides["test"]
    assert together == {document.doc_id: document.text for document in read_documents(documents)}
    assert [metrics[f"{split}_documents"] for split in SPLITS] == [len(sides[split]) for split in SPLITS]
    assert all(sides.values())


def test_meta_and_metrics_count_what_the_loader_serves(tmp_path: Path, tokenizer: Path):
    documents = write_documents(tmp_path / "documents", make_documents(60), 3)
    metrics = run(tmp_path / "step", documents, tokenizer, TokensConfig())
    meta = read_json(tmp_path / "step" / "output" / "meta.json")
    assert (meta["vocab_size"], meta["dtype"]) == (290, "uint16")
    for split in SPLITS:
        rows = TokenRows.open(tmp_path / "step" / "output" / split, length=4)
        counts = {"documents": rows.num_documents, "tokens": rows.num_tokens, "bytes": rows.num_bytes}
        assert meta[split] == counts
        assert metrics[f"{split}_tokens"] == rows.num_tokens


def test_the_split_of_a_document_does_not_depend_on_the_shards_or_on_the_others(tmp_path: Path, tokenizer: Path):
    config, loaded = (
        TokensConfig(val_fraction=0.5, min_val_documents=1, test_fraction=0),
        TextTokenizer.from_folder(tokenizer),
    )
    sides = {}
    for name, count, num_shards in (("few", 40, 2), ("many", 80, 5)):
        documents = write_documents(tmp_path / name, make_documents(count), num_shards)
        run(tmp_path / f"step-{name}", documents, tokenizer, config)
        sides[name] = set(read_texts(tmp_path / f"step-{name}" / "output" / "val", loaded))
    few = {document.doc_id for document in make_documents(40)}
    assert sides["many"] & few == sides["few"]


def test_two_runs_write_the_same_bytes_and_another_seed_splits_otherwise(tmp_path: Path, tokenizer: Path):
    documents = write_documents(tmp_path / "documents", make_documents(60), 3)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(tmp_path / name, documents, tokenizer, TokensConfig(seed=seed))
    one, again, other = (digests(tmp_path / name / "output") for name in ("one", "again", "other"))
    assert one == again
    assert one != other


@dataclass(frozen=True)
class StoppedAfter(LocalContext):
    """A context whose user asks it to stop when so many shards are encoded."""

    shards: int = 0

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        results = super().map(fn, items)
        if len(list(self.scratch.glob("work-*/done/*.json"))) >= self.shards:
            (self.channel.folder / "stop").touch()
        return results


@pytest.mark.parametrize("stop_after", range(1, 5))
def test_a_run_stopped_after_any_shard_continues_to_the_same_bytes(tmp_path: Path, tokenizer: Path, stop_after: int):
    config = TokensConfig(shards_at_once=1)
    documents = write_documents(tmp_path / "documents", make_documents(60), 5)
    run(tmp_path / "undisturbed", documents, tokenizer, config)
    ctx = context(tmp_path / "stopped", config)
    stopped = StoppedAfter(ctx.step, ctx.output, ctx.scratch, ctx.channel, ctx.base_seed, stop_after)
    with pytest.raises(Preempted, match=f"after {stop_after} of 5 shards"):
        tokens(stopped, config, documents=documents, tokenizer=tokenizer)
    kept = {path: path.stat().st_mtime_ns for path in ctx.scratch.glob("work-*/done/*.json")}
    (tmp_path / "stopped" / "stop").unlink()
    tokens(ctx, config, documents=documents, tokenizer=tokenizer)
    assert digests(ctx.output) == digests(tmp_path / "undisturbed" / "output")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(kept) == stop_after


def test_too_few_documents_to_split_are_told(tmp_path: Path, tokenizer: Path):
    documents = write_documents(tmp_path / "documents", make_documents(8), 2)
    with pytest.raises(StepError, match="8 documents left and the val split alone needs 8"):
        run(tmp_path / "step", documents, tokenizer, TokensConfig())


def heads_over(*shards: set[bytes]) -> Callable[[HeadOf], list[Head]]:
    return lambda head_of: [head_of.over(names) for names in shards]


@given(
    names=st.sets(st.binary(min_size=16, max_size=16), min_size=4, max_size=60),
    fractions=st.tuples(st.floats(0, 0.6), st.one_of(st.just(0.0), st.floats(1e-6, 0.39))),
    least=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_validation_and_test_get_their_share_at_least_the_minimum_and_never_all(
    names: set[bytes], fractions: tuple[float, float], least: tuple[int, int]
):
    ordered = sorted(names, key=lambda name: split_hash(name, 5))
    places = [split_hash(name, 5) for name in ordered]
    halves = set(ordered[::2]), set(ordered[1::2])
    val = max(least[0], sum(place < int(fractions[0] * 2**64) for place in places))
    test = 0
    if fractions[1] and val < len(places):
        floor = max(int(fractions[0] * 2**64), places[val - 1] + 1 if val == least[0] else 0)
        test = max(least[1], sum(floor <= place < floor + int(fractions[1] * 2**64) for place in places))
    if val + test >= len(places):
        with pytest.raises(StepError, match=r"alone needs|none remains to train on"):
            find_limits(heads_over(*halves), 5, fractions, least)
        return
    limits = find_limits(heads_over(*halves), 5, fractions, least)
    assert limits == find_limits(heads_over(names), 5, fractions, least)
    sides = [limits.side(name) for name in ordered]
    assert sides == ["val"] * val + ["test"] * test + ["train"] * (len(places) - val - test)


def test_a_cluster_of_near_duplicates_stays_on_one_side(tmp_path: Path, tokenizer: Path):
    rows = [replace(document, cluster=bytes([number % 12]) * 16) for number, document in enumerate(make_documents(120))]
    documents = write_documents(tmp_path / "documents", rows, 3)
    run(tmp_path / "step", documents, tokenizer, TokensConfig(val_fraction=0.3, test_fraction=0.3))
    loaded = TextTokenizer.from_folder(tokenizer)
    clusters = {row.doc_id: row.cluster for row in rows}
    sides = [
        {clusters[doc_id] for doc_id in read_texts(tmp_path / "step" / "output" / split, loaded)} for split in SPLITS
    ]
    assert all(sides)
    assert sum(map(len, sides)) == 12


def test_groups_and_cluster_sizes_travel_with_the_tokens(tmp_path: Path, tokenizer: Path):
    rows = [
        replace(document, lang="zh" if number % 3 else "en", cluster_size=1 + number)
        for number, document in enumerate(make_documents(60))
    ]
    documents = write_documents(tmp_path / "documents", rows, 3)
    run(tmp_path / "step", documents, tokenizer, TokensConfig())
    wanted = {row.doc_id: (row.lang, row.source, row.cluster_size) for row in rows}
    meta = read_json(tmp_path / "step" / "output" / "meta.json")
    for split in SPLITS:
        counts: Counter[str] = Counter()
        for batch in TokenSplit.open(tmp_path / "step" / "output", split).batches:
            columns = zip(batch.langs.to_pylist(), batch.sources.to_pylist(), batch.cluster_sizes.tolist(), strict=True)
            assert list(columns) == [wanted[doc_id] for doc_id in batch.doc_ids.to_pylist()]
            counts.update(batch.langs.to_pylist())
        told = meta["groups"]["lang"][split]
        assert {lang: entry["documents"] for lang, entry in told.items()} == counts


def test_ids_are_read_without_the_texts(tmp_path: Path):
    rows = make_documents(20)
    write_documents(tmp_path, rows, 1)
    assert read_doc_ids(tmp_path / "documents" / "shard-00000.arrow") == sorted(row.doc_id for row in rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
        {"test_fraction": 0.98},
        {"min_val_documents": 0},
        {"shards_at_once": 0},
    ],
)
def test_impossible_settings_are_refused_by_key(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=f"tokens.{next(iter(wrong))}"):
        TokensConfig(**wrong)
