"""The unigram trainer: its sums are those over all cuts, and it always says the same."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from components.tokenizer import unigram
from components.tokenizer.counting import count_texts
from components.tokenizer.train import BYTE_LETTERS, letters_of
from components.tokenizer.unigram import train_unigram

TABLE = sorted({"abab": 10, "ab": 5, "ac": 3, "cabba": 2, "河水河": 4, "水": 9, "a": 1}.items())


def all_cuts(word: str) -> list[list[str]]:
    cuts = []
    for marks in itertools.product([False, True], repeat=len(word) - 1):
        places = [0, *(at for at, mark in enumerate(marks, 1) if mark), len(word)]
        cuts.append([word[a:b] for a, b in itertools.pairwise(places)])
    return cuts


def expected_by_hand(scores: dict[str, float], table: list[tuple[str, int]]) -> Counter[str]:
    """Expected counts by going through all cuts; a character that is no token has the score of its bytes."""

    def score(part: str) -> float | None:
        return scores.get(part, unigram._BYTE_SCORE * len(part.encode()) if len(part) == 1 else None)

    expected: Counter[str] = Counter()
    for word, count in table:
        cuts = [cut for cut in all_cuts(word) if all(score(part) is not None for part in cut)]
        chances = [math.exp(sum(score(part) for part in cut)) for cut in cuts]
        for chance, cut in zip(chances, cuts, strict=True):
            for part in cut:
                expected[part] += count * chance / sum(chances)
    return expected


@pytest.mark.parametrize("without", ["", "c", "河"])
def test_expected_counts_are_sums_over_all_cuts(without: str):
    alphabet, words = unigram._laid_out(TABLE)
    vocabulary = unigram._seeds(words, alphabet, 2, 100)
    texts = [text for text in vocabulary.texts if text != without]
    scores = np.linspace(-1, -6, len(texts))
    edges = unigram._edges_of(words, unigram._trie_of(texts, alphabet))
    found = unigram._expected(words, edges, scores)
    by_hand = expected_by_hand(dict(zip(texts, scores.tolist(), strict=True)), TABLE)
    assert found == pytest.approx([by_hand[text] for text in texts], rel=1e-9, abs=1e-12)


def test_the_next_best_cut_of_a_token_is_the_best_of_all_others():
    alphabet, words = unigram._laid_out(TABLE)
    texts = unigram._seeds(words, alphabet, 2, 100).texts
    scores = dict(zip(texts, np.linspace(-1, -6, len(texts)).tolist(), strict=True))
    table = [(text, 1) for text in texts]
    lengths = [len(text) for text in texts]
    chars = np.searchsorted(alphabet, unigram._code_points(texts))
    pieces = unigram.Words(chars, np.cumsum([0, *lengths]), np.ones(len(texts)))
    num_bytes = np.array([len(text.encode()) for text in texts])
    trie = unigram._trie_of(texts, alphabet)
    found = unigram._next_best(pieces, num_bytes, trie, np.array(list(scores.values())))
    for (text, _), value in zip(table, found, strict=True):
        as_bytes = unigram._BYTE_SCORE * len(text.encode())
        others = [
            sum(scores[part] for part in cut) for cut in all_cuts(text) if cut != [text] and set(cut) <= set(scores)
        ]
        assert value == pytest.approx(max([as_bytes, *others]))


def test_seeds_are_all_frequent_substrings_with_their_frequency():
    alphabet, words = unigram._laid_out(TABLE)
    seeds = unigram._seeds(words, alphabet, 5, 100)
    counts: Counter[str] = Counter()
    for word, count in TABLE:
        for first, last in itertools.combinations(range(len(word) + 1), 2):
            counts[word[first:last]] += count
    assert set(seeds.texts) == {
        text for text, count in counts.items() if count >= 5 or (text.isascii() and len(text) == 1)
    }


def test_words_are_found_again_and_scores_fall(make_sentences):
    entries = train_unigram(count_texts(make_sentences(300), "unigram"), 256 + 60, 2)
    names = [name for name, _ in entries]
    assert names[:256] == BYTE_LETTERS
    assert len(set(names)) == len(names) == 316
    for word in (" stone", " between", "今天", "散步"):
        assert letters_of(word) in names
    scores = [score for _, score in entries[256:]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > entries[0][1]  # the byte 0 is no token of the text


def test_the_vocabulary_does_not_depend_on_the_order_of_the_table(make_sentences):
    table = count_texts(make_sentences(200), "unigram")
    shuffled = random.Random(1).sample(table, len(table))
    assert train_unigram(table, 330, 2) == train_unigram(shuffled, 330, 2)


def test_blocks_of_words_give_the_same_sums(make_sentences, monkeypatch: pytest.MonkeyPatch):
    table = count_texts(make_sentences(200), "unigram")
    whole = train_unigram(table, 330, 2)
    monkeypatch.setattr(unigram, "_BLOCK_CHARS", 100)
    parts = train_unigram(table, 330, 2)
    assert [name for name, _ in whole] == [name for name, _ in parts]
    assert [score for _, score in whole] == pytest.approx([score for _, score in parts], abs=2e-6)


def test_digamma_has_its_known_values():
    assert unigram._digamma(np.array([1.0, 0.5, 10.0])) == pytest.approx([-0.5772156649, -1.9635100260, 2.2517525890])
