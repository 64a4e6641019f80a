"""Sketches: the same alone and in company, with any number of workers, and each part by its plain definition."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from dedup_help import bytes_of
from hypothesis import given
from hypothesis import strategies as st
from made_texts import edited, make_document, make_text, write_artifact
from parallel_context import parallel_context

from components.context import local_context
from components.errors import ConfigError
from components.sketch.batch import sketches_of
from components.sketch.config import MinHashConfig, SketchConfig
from components.sketch.folding import fold
from components.sketch.hashing import Stretches
from components.sketch.shingles import digest_of, shingles_of
from components.sketch.sketches import SketchReader, iter_sketches
from components.sketch.step import sketch

CONFIG = SketchConfig(line_chars=4, line_chars_zh=2, passage_chars=20, passage_chars_zh=16)
ODD = st.text(st.sampled_from("abcdef 河水漲涨Ａé.,!\n\n😀"), max_size=60)
DOCUMENTS = st.lists(st.tuples(ODD, st.sampled_from(["en", "zh", "fr"])), min_size=1, max_size=6)


def equal(first: object, second: object) -> bool:
    return all(
        list(one) == list(two) if hasattr(one, "tolist") else one == two
        for one, two in zip(vars(first).values(), vars(second).values(), strict=True)
    )


@given(DOCUMENTS)
def test_a_sketch_is_the_same_alone_and_in_company(rows: list[tuple[str, str]]) -> None:
    documents = [make_document(str(number), text, lang) for number, (text, lang) in enumerate(rows)]
    together = sketches_of(documents, CONFIG)
    assert all(
        equal(one, sketches_of([document], CONFIG)[0]) for one, document in zip(together, documents, strict=True)
    )


@given(ODD, st.sampled_from(["en", "zh"]))
def test_digest_letters_and_shingles_are_those_of_the_folded_text(text: str, lang: str) -> None:
    (found,) = sketches_of([make_document("a", text, lang)], CONFIG)
    folded = fold(text, lang)
    assert (found.digest, found.letters, found.chars) == (digest_of(folded), len(folded), len(text))
    assert found.shingles.tolist() == shingles_of(folded, CONFIG.minhash(lang).shingle_chars).tolist()


@given(ODD, st.sampled_from(["en", "zh"]))
def test_lines_are_hashed_as_texts_of_their_own_and_short_ones_left_out(text: str, lang: str) -> None:
    (found,) = sketches_of([make_document("a", text, lang)], CONFIG)
    least, _ = CONFIG.lengths(lang)
    folded = [fold(line, lang) for line in text.split("\n") if any(char.isalnum() or char == "😀" for char in line)]
    hashes = {int(Stretches(line).windows(len(line))[0]) for line in folded if len(line) >= least}
    if any(char.isalnum() or char == "😀" for char in text):
        assert found.lines.tolist() == sorted(hashes)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
def test_texts_that_share_a_passage_share_a_fingerprint(a: int, b: int, c: int, d: int, seed: int) -> None:
    passage = make_text("zh", seed, 16)
    texts = [make_text("zh", seed + 100 * place, size) for place, size in ((1, a), (2, b), (3, c), (4, d))]
    documents = [
        make_document("a", texts[0] + passage + texts[1], "zh"),
        make_document("b", texts[2] + passage + texts[3], "zh"),
    ]
    one, two = sketches_of(documents, CONFIG)
    assert set(one.passages.tolist()) & set(two.passages.tolist())


def test_unrelated_texts_share_no_fingerprint() -> None:
    one, two = sketches_of([make_document(str(seed), make_text("en", seed, 3000)) for seed in (1, 2)], SketchConfig())
    assert len(one.passages) > 20
    assert not set(one.passages.tolist()) & set(two.passages.tolist())


def test_languages_with_the_same_settings_can_meet_and_others_cannot() -> None:
    text = make_text("en", 1, 500)
    documents = [make_document("a", text, lang) for lang in ("en", "fr", "zh")]
    english, french, chinese = sketches_of(documents, SketchConfig())
    assert english.bands.tolist() == french.bands.tolist()
    assert not set(english.bands.tolist()) & set(chinese.bands.tolist())


def test_single_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    documents = [make_document(str(seed), make_text("en", seed, 50 + 900 * (seed % 3))) for seed in range(2500)]
    artifact = write_artifact(tmp_path / "documents", documents, 2)
    context = local_context("sketch", tmp_path / "run")
    sketch(context, SketchConfig(), artifact)
    paths = sorted((context.output / "sketches").glob("*.arrow"))
    rows = [list(iter_sketches(path)) for path in paths]
    starts = [0, len(rows[0]), len(rows[0]) + len(rows[1])]
    with SketchReader(paths, starts) as reader:
        for number, row in enumerate([*rows[0], *rows[1]]):
            if number % 7 == 0:
                assert reader.shingles(number).tolist() == row.shingles.tolist()
                assert (reader.chars(number), reader.lang(number)) == (row.chars, "en")


@pytest.mark.parametrize("workers", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_the_bytes_do_not_depend_on_workers_or_order(tmp_path: Path, workers: int) -> None:
    documents = [
        make_document(str(seed), make_text(lang, seed, 300), lang) for lang in ("en", "zh") for seed in range(60)
    ]
    one, other = (
        write_artifact(tmp_path / "a", documents),
        write_artifact(tmp_path / "b", random.Random(1).sample(documents, len(documents))),
    )
    metrics = sketch(local_context("sketch", tmp_path / "one"), SketchConfig(), one)
    with parallel_context("sketch", tmp_path / "many", workers) as context:
        sketch(context, SketchConfig(shards_at_once=2), other)
    assert metrics["read"] == 120
    assert bytes_of(tmp_path / "one" / "output") == bytes_of(tmp_path / "many" / "output")


def test_edits_leave_most_bands_of_some_pair_alike() -> None:
    text = make_text("zh", 1, 800)
    one, two = sketches_of(
        [make_document("a", text, "zh"), make_document("b", edited(text, 0.03, 1), "zh")], SketchConfig()
    )
    assert (one.bands == two.bands).sum() >= 5


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: MinHashConfig(bands=0), "sketch.<language>.bands"),
        (lambda: MinHashConfig(rows=65), "sketch.<language>.rows"),
        (lambda: MinHashConfig(shingle_chars=0), "sketch.<language>.shingle_chars"),
        (lambda: SketchConfig(line_chars=0), "sketch.line_chars"),
        (lambda: SketchConfig(passage_chars=3), "sketch.passage_chars"),
        (lambda: dataclasses.replace(SketchConfig(), shards_at_once=0), "sketch.shards_at_once"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_key(make: object, key: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.where == key
