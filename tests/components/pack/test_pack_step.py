"""The pack step: the plan accounts for every id, and the rows read by it hold what was written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.context import LocalContext, local_context
from components.errors import ConfigError, Preempted, StepError
from components.pack.config import PackConfig
from components.pack.sequence import repeats_of
from components.pack.step import SUMS, pack
from components.publish import sha256_of
from components.shards.loader import Loader
from components.shards.plan import open_plan
from components.shards.schedule import Schedule
from components.tokenizer.special import BOS, EOS, PAD
from tests.components.shards.toy import Toy, row_of, varied, write_tokens

T = TypeVar("T")
R = TypeVar("R")

STRATEGIES = ("concat", "best_fit", "document")
LANGS = ("en", "zh")


def run(folder: Path, tokens: Path, config: PackConfig) -> tuple[dict[str, float], Path]:
    ctx = local_context("pack", folder)
    return pack(ctx, config, tokens), ctx.output


def digests(output: Path) -> dict[str, str]:
    return {str(path.relative_to(output)): sha256_of(path) for path in sorted(output.rglob("*.*"))}


def served(tokens: Path, plan: Path, length: int) -> list[list[int]]:
    """One epoch of rows."""
    loader = Loader.open(tokens, Schedule(3, 1, length), plan)
    return [loader.batch(step).ids[0].tolist() for step in range(loader.num_rows)]


def pieces_of(row: list[int]) -> list[list[int]]:
    """The documents of a row, without PAD."""
    ids = [token for token in row if token != PAD]
    starts = [
        0,
        *(place for place, token in enumerate(ids) if place and (token == BOS or ids[place - 1] == EOS)),
        len(ids),
    ]
    return [ids[start:end] for start, end in pairwise(starts)]


@pytest.fixture(scope="module")
def toys() -> list[Toy]:
    return varied(300, 5, langs=LANGS)


@pytest.fixture(scope="module")
def tokens(toys: list[Toy], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=[toys[:120], toys[120:]])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("repeat", ["none", "log", "sqrt"])
def test_every_id_is_used_cropped_or_left_over(
    tmp_path: Path, tokens: Path, toys: list[Toy], strategy: str, repeat: str
):
    config = PackConfig(strategy, 16, group="lang", repeat=repeat, window=70)
    metrics, output = run(tmp_path, tokens, config)
    about = json.loads((output / "plan.json").read_text(encoding="utf-8"))
    for counts in (*about["groups"], about["total"]):
        assert counts["tokens"] + counts["repeated"] == counts["used"] + counts["cropped"] + counts["tail"]
    assert about["total"] == {name: metrics[name] for name in SUMS}
    assert metrics["documents"] == len(toys)
    assert metrics["tokens"] == sum(len(row_of(toy)) for toy in toys)
    times = repeats_of(np.array([toy.cluster_size for toy in toys], np.int32), config)
    extra = sum((int(k) - 1) * len(row_of(toy)) for k, toy in zip(times, toys, strict=True))
    assert metrics["repeated"] == extra


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_counts_are_those_of_the_rows_that_are_served(tmp_path: Path, tokens: Path, strategy: str):
    metrics, output = run(tmp_path, tokens, PackConfig(strategy, 16, group="lang", window=70))
    loader = Loader.open(tokens, Schedule(3, 1, 16), output)
    rows = [loader.batch(step) for step in range(loader.num_rows)]
    assert metrics["rows"] == len(rows)
    assert metrics["padding"] == sum(int((row.ids == PAD).sum()) for row in rows)
    assert metrics["targets"] == sum(int(row.loss_mask.sum()) for row in rows)


def test_a_row_of_best_fit_holds_whole_documents_or_parts_of_longer_ones(tmp_path: Path, tokens: Path, toys: list[Toy]):
    metrics, output = run(tmp_path, tokens, PackConfig("best_fit", 24))
    whole = {tuple(row_of(toy)) for toy in toys}
    joined = "|".join(" ".join(map(str, row_of(toy))) for toy in toys)
    num_whole = 0
    for row in served(tokens, output, 24):
        for piece in pieces_of(row):
            num_whole += tuple(piece) in whole
            assert " ".join(map(str, piece)) in joined
    short = sum(len(row_of(toy)) <= 25 for toy in toys)
    assert num_whole > 0.9 * short
    assert metrics["padding"] + metrics["cropped"] < 0.02 * metrics["tokens"]


def test_a_row_of_document_holds_one_document(tmp_path: Path, tokens: Path):
    _, output = run(tmp_path, tokens, PackConfig("document", 16))
    for row in served(tokens, output, 16):
        assert len(pieces_of(row)) == 1
        assert row.count(EOS) <= 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_reads_its_own_documents_alone(tmp_path: Path, strategy: str):
    toys = [Toy([5000 + number % 2] * 20, LANGS[number % 2]) for number in range(60)]
    tokens = write_tokens(tmp_path / "tokens", train=[toys])
    _, output = run(tmp_path / "step", tokens, PackConfig(strategy, 16, group="lang"))
    plan = open_plan(output, tokens)
    split = Loader.open(tokens, Schedule(1, 1, 16), output).split
    for number, lang in enumerate(LANGS):
        rows = plan.groups[lang]
        ids = split.read(rows.spans(np.arange(rows.num_rows)), rows.num_rows, 17)
        assert set(np.unique(ids).tolist()) - {PAD} == {BOS, EOS, 5000 + number}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_is_packed_alike_whatever_other_groups_there_are(tmp_path: Path, toys: list[Toy], strategy: str):
    config = PackConfig(strategy, 16, group="lang", window=70)
    both = write_tokens(tmp_path / "both", train=[toys])
    alone = write_tokens(tmp_path / "alone", train=[[toy for toy in toys if toy.lang == "zh"]])
    rows = []
    for tokens in (both, alone):
        _, output = run(tmp_path / f"step-{tokens.name}", tokens, config)
        zh = open_plan(output, tokens).groups["zh"]
        split = Loader.open(tokens, Schedule(1, 1, 16), output).split
        rows.append(split.read(zh.spans(np.arange(zh.num_rows)), zh.num_rows, 17).tolist())
    assert rows[0] == rows[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_document_stands_in_an_epoch_as_often_as_its_cluster_says(tmp_path: Path, strategy: str):
    toys = [Toy([100 + number] * 10, cluster_size=number + 1) for number in range(40)]
    tokens = write_tokens(tmp_path / "tokens", train=[toys])
    config = PackConfig(strategy, 11, repeat="sqrt", max_repeat=5)
    _, output = run(tmp_path / "step", tokens, config)
    loader = Loader.open(tokens, Schedule(3, 1, 11), output)
    found: Counter[int] = Counter()
    for step in range(loader.num_rows):
        rows = loader.batch(step)
        found.update(rows.targets[rows.targets >= 100].tolist())
    times = [min(5, int((number + 1) ** 0.5)) for number in range(40)]
    short = 10 if strategy == "concat" else 0  # the end of the stream may fill no row
    assert sum(10 * count - found[100 + number] for number, count in enumerate(times)) <= short


@pytest.mark.parametrize(
    ("repeat", "sizes", "times"),
    [
        ("none", [1, 9, 100], [1, 1, 1]),
        ("sqrt", [0, 1, 3, 4, 9, 15, 16, 400], [1, 1, 1, 2, 3, 3, 4, 8]),
        ("log", [1, 2, 3, 4, 8, 64, 1024], [1, 2, 2, 3, 4, 7, 8]),
    ],
)
def test_repeats_grow_with_the_size_of_the_cluster_up_to_a_limit(repeat: str, sizes: list[int], times: list[int]):
    config = PackConfig(repeat=repeat, max_repeat=8)
    assert repeats_of(np.array(sizes, np.int32), config).tolist() == times


def test_concat_without_groups_reads_as_without_a_plan(tmp_path: Path, tokens: Path):
    _, output = run(tmp_path, tokens, PackConfig("concat", 16))
    planned, plain = (Loader.open(tokens, Schedule(3, 8, 16), plan) for plan in (output, None))
    for step in range(40):
        assert planned.batch(step).ids.tolist() == plain.batch(step).ids.tolist()


@dataclass(frozen=True)
class Waves(LocalContext):
    """A context that works backwards, and stops after so many calls."""

    calls: int = 1_000_000

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        results = [fn(item) for item in reversed(items)][::-1]
        done = len(list(self.scratch.glob("work-*/windows-*/*.json")))
        if done >= self.calls:
            raise Preempted("stopped")
        return results


def test_the_bytes_do_not_depend_on_waves_shards_or_stops(tmp_path: Path, tokens: Path, toys: list[Toy]):
    config = PackConfig("best_fit", 16, group="lang", repeat="log", window=40)
    run(tmp_path / "plain", tokens, config)
    ctx = local_context("pack", tmp_path / "stopped")
    for calls in (1, 3, 6, 1_000_000):
        waves = Waves(ctx.step, ctx.output, ctx.scratch, ctx.channel, ctx.base_seed, calls)
        try:
            pack(waves, replace(config, windows_at_once=2), tokens)
        except Preempted:
            continue
    assert digests(ctx.output) == digests(tmp_path / "plain" / "output")


def test_a_plan_that_was_damaged_is_refused(tmp_path: Path, tokens: Path):
    _, output = run(tmp_path, tokens, PackConfig("best_fit", 16))
    path = output / "groups" / "rows-00000.arrow"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StepError, match="plan of rows cannot be read"):
        open_plan(output, tokens)


def test_a_corpus_that_fills_no_row_is_refused(tmp_path: Path):
    tokens = write_tokens(tmp_path / "tokens", train=[[Toy([7] * 20)]])
    with pytest.raises(StepError, match="1 documents of 22 tokens do not fill one row of 65"):
        run(tmp_path / "step", tokens, PackConfig(length=64))


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "best"}, {"length": 1}, {"group": "url"}, {"repeat": "twice"}, {"max_repeat": 0}, {"window": 0}],
)
def test_impossible_settings_are_refused_by_key(wrong: dict[str, int | str]):
    with pytest.raises(ConfigError, match=f"pack.{next(iter(wrong))}"):
        PackConfig(**wrong)


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=2, max_size=20),
    langs=st.lists(st.sampled_from(LANGS), min_size=20, max_size=20),
    strategy=st.sampled_from(STRATEGIES),
    length=st.integers(2, 20),
)
def test_any_documents_are_packed_with_nothing_unaccounted(
    tmp_path_factory, sizes: list[int], langs: list[str], strategy: str, length: int
):
    folder = tmp_path_factory.mktemp("any")
    toys = [Toy(range(100, 100 + size), lang) for size, lang in zip(sizes, langs, strict=False)]
    tokens = write_tokens(folder / "tokens", train=[toys[:3], toys[3:]])
    config = PackConfig(strategy, length, group="lang", window=5)
    totals = [sum(size + 2 for size, lang in zip(sizes, langs, strict=False) if lang == name) for name in LANGS]
    if strategy == "concat" and max(totals) <= length:
        with pytest.raises(StepError, match="do not fill one row"):
            run(folder / "step", tokens, config)
        return
    metrics, output = run(folder / "step", tokens, config)
    assert metrics["tokens"] == metrics["used"] + metrics["cropped"] + metrics["tail"]
    assert len(served(tokens, output, length)) == metrics["rows"]
