"""Masked words: how many are hidden, what stands in their place, and that a word goes whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.objectives.masking import IGNORED, Vocabulary, mask_row
from components.objectives.words import word_cut, word_numbers
from components.tokenizer.counting import count_texts
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import BOS, EOS, MASK
from components.tokenizer.train import train

VOCABULARY = Vocabulary(num_special=8, size=300)
TEXT = "The cats sat 123 on it, don't they? 中国人民今天很好。 naïve"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(train("bpe", "none", count_texts([TEXT] * 4, "bpe"), 330, 2, 1))


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


rows = st.lists(st.integers(0, 299), min_size=1, max_size=60)


@given(rows, st.integers(0, 1000), st.floats(0.05, 0.9))
def test_the_share_of_the_tokens_that_stand_for_text_is_chosen_and_no_special_one(row, seed, fraction):
    ids = np.array(row, dtype=np.int64)
    seen, targets = mask_row(ids, VOCABULARY, fraction, draw(seed))
    chosen = targets != IGNORED
    maskable = ids >= 8
    assert chosen.sum() == (max(1, round(fraction * maskable.sum())) if maskable.any() else 0)
    assert not (chosen & ~maskable).any()
    assert (targets[chosen] == ids[chosen]).all()
    assert (seen[~chosen] == ids[~chosen]).all()
    assert set(seen[chosen][seen[chosen] < 8].tolist()) <= {MASK}


def test_eight_of_ten_become_the_mask_one_another_token_one_stays():
    ids = np.full(200_000, 100, dtype=np.int64)
    seen, targets = mask_row(ids, VOCABULARY, 0.5, draw(1))
    chosen = seen[targets != IGNORED]
    assert len(chosen) == 100_000
    shares = [(chosen == MASK).mean(), (chosen == 100).mean()]
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 292], abs=0.005)
    others = np.unique(chosen[(chosen != MASK) & (chosen != 100)])
    assert (others.min(), others.max(), len(others)) == (8, 299, 291)


def test_the_same_draw_gives_the_same_row_and_another_one_another():
    ids = np.arange(8, 108, dtype=np.int64)
    one, again, other = (mask_row(ids, VOCABULARY, 0.15, draw(seed)) for seed in (5, 5, 6))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert (one[1] != other[1]).any()


@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_a_word_is_chosen_whole_or_not_at_all(seed, sizes):
    words = np.repeat(np.arange(len(sizes)), sizes)
    ids = np.full(len(words), 50, dtype=np.int64)
    chosen = mask_row(ids, VOCABULARY, 0.3, draw(seed), words)[1] != IGNORED
    shares = [chosen[words == word].mean() for word in range(len(sizes))]
    assert set(shares) <= {0.0, 1.0}
    budget = max(1, round(0.3 * len(ids)))
    assert chosen.sum() <= budget or sum(shares) == 1
    missed = [size for size, share in zip(sizes, shares, strict=True) if not share]
    assert not missed or chosen.sum() + min(missed) > budget or chosen.sum() >= budget


def test_every_word_has_its_turn():
    words = np.repeat(np.arange(10), 3)
    ids = np.full(30, 50, dtype=np.int64)
    counts = sum((mask_row(ids, VOCABULARY, 0.2, draw(seed), words)[1] != IGNORED).astype(int) for seed in range(500))
    assert counts.min() > 60
    assert counts.max() < 140


def grouped(tokenizer: TextTokenizer, ids: list[int], whole_words: str) -> list[str]:
    cut = word_cut(whole_words, "pretrain.whole_words")
    numbers = word_numbers(np.array(ids), tokenizer.pieces, cut)
    groups = [[index for index, number in zip(ids, numbers, strict=True) if number == word] for word in set(numbers)]
    assert sorted(numbers.tolist()) == numbers.tolist()
    return [b"".join(tokenizer.pieces[index] for index in group).decode() for group in groups]


def test_words_are_english_words_with_their_space(tokenizer):
    text = "The cats don't sat naïve 123"
    assert grouped(tokenizer, tokenizer.encode(text), "pieces") == [
        "The",
        " cats",
        " don",
        "'t",
        " sat",
        " naïve",
        *[" 12", "3"],
    ]


def test_jieba_joins_the_characters_of_a_chinese_word(tokenizer):
    ids = [index for char in "中国今天很好" for index in tokenizer.encode(char)]
    assert grouped(tokenizer, ids, "jieba") == ["中国", "今天", "很", "好"]
    assert grouped(tokenizer, ids, "pieces") == list("中国今天很好")


def test_special_tokens_end_a_word_and_are_words_by_themselves(tokenizer):
    ids = [*tokenizer.encode(" cats"), EOS, BOS, *tokenizer.encode("cats")]
    numbers = word_numbers(np.array(ids), tokenizer.pieces, word_cut("pieces", "x"))
    middle = len(tokenizer.encode(" cats"))
    assert len(set(numbers.tolist())) == 4
    assert numbers[middle] == 1
    assert numbers[middle + 1] == 2


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_row_that_begins_inside_a_character_has_words_all_the_same(start, size):
    tokens = TextTokenizer(train("bpe", "none", count_texts(["x"], "bpe"), 320, 2, 1))
    ids = np.array(tokens.encode(TEXT)[start : start + size])
    numbers = word_numbers(ids, tokens.pieces, word_cut("pieces", "x"))
    assert len(numbers) == len(ids)
    assert numbers[0] == 0
    assert set(np.diff(numbers).tolist()) <= {0, 1}
