"""Features and model: sets of words and pairs, a ranking measure, and a file that comes back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import StepError
from components.quality.features import corrupt, features_of, hash_texts
from components.quality.model import Model, auc, load_model, select, train

BITS = 20
TEXTS = st.lists(st.text(st.sampled_from("ab 河,"), max_size=12), max_size=6)


@given(TEXTS)
def test_a_text_has_a_feature_for_each_different_word_and_pair(texts: list[str]) -> None:
    words = hash_texts(texts, 100)
    features = features_of(words, BITS)
    for one, count in zip(words, features.counts, strict=True):
        hashes = one.tolist()
        assert count == len(set(hashes)) + len(set(pairwise(hashes)))


@given(TEXTS)
def test_the_batch_a_text_is_in_changes_none_of_its_features(texts: list[str]) -> None:
    together = features_of(hash_texts(texts, 100), BITS)
    for row, text in enumerate(texts):
        alone = features_of(hash_texts([text], 100), BITS)
        assert select(together, np.array([row])).indices.tolist() == alone.indices.tolist()


def test_words_beyond_the_limit_are_not_looked_at() -> None:
    assert hash_texts(["a b c d", "河 水 涨"], 2)[0].tolist() == hash_texts(["a b"], 9)[0].tolist()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20))
def test_the_area_under_the_curve_is_the_chance_of_a_good_one_above_a_bad_one(pairs: list[tuple[int, bool]]) -> None:
    good = [value for value, is_good in pairs if is_good]
    bad = [value for value, is_good in pairs if not is_good]
    found = auc(np.array([float(value) for value, _ in pairs]), np.array([one for _, one in pairs], dtype=np.bool_))
    if good and bad:
        wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in good for b in bad)
        assert found == pytest.approx(wins / len(good) / len(bad))
    else:
        assert np.isnan(found)


def test_a_model_learns_the_order_of_words() -> None:
    words = hash_texts(["a b c d", "d c b a"] * 40, 100)
    features = features_of(words, BITS)
    good = np.array([True, False] * 40)
    scores = train(features, good, BITS, 5, 0.5, seed=1).score(features)
    assert scores[good].min() > 0.8 > 0.2 > scores[~good].max()


def test_a_seed_decides_the_model() -> None:
    features = features_of(hash_texts([f"{n} {n % 3} {n % 7}" for n in range(600)], 100), BITS)
    good = np.array([n % 3 == 0 for n in range(600)])
    first, same, other = (train(features, good, BITS, 2, 0.5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.weights, same.weights)
    assert not np.array_equal(first.weights, other.weights)


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = Model(np.arange(256, dtype=np.float32) / 256, -0.5)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    features = features_of(hash_texts(["a b c"], 100), again.bits)
    assert again.bits == 8
    assert again.score(features) == model.score(features)


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(StepError, match="quality model"):
        load_model(tmp_path / "model.safetensors")


def test_a_corrupted_text_has_the_words_of_the_text_in_another_order() -> None:
    (words,) = hash_texts(["the water came up to the mill in the night and we carried all to the tower"], 100)
    for seed in range(20):
        bad = corrupt(words, seed)
        assert len(bad) == len(words)
        assert set(bad.tolist()) <= set(words.tolist())
        assert bad.tolist() != words.tolist()
