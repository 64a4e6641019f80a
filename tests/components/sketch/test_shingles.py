"""Folding, shingling and similarity, against plain definitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_texts import make_text

from components.sketch.folding import fold
from components.sketch.shingles import digest_of, jaccard, shingles_of

SHORT = st.text(st.sampled_from("abc河水 ,。A！"), max_size=30)


def folded(text: str, lang: str) -> str:
    return "".join(map(chr, fold(text, lang)))


@pytest.mark.parametrize(
    ("lang", "text", "result"),
    [
        ("en", "  The River -- rose,\n2 metres!  ", "the river rose 2 metres"),
        ("en", "ＦＵＬＬ　width", "full width"),
        ("en", "snake_case", "snake case"),
        ("zh", "昨天，河 水\n涨了２米。", "昨天河水涨了2米"),
        ("zh", "！？。。", "！？。。"),
        ("en", "", ""),
        ("en", "Café ÉTÉ", "café été"),
        ("zh", "軟體與硬體", "软体与硬体"),
        ("zh", "𠀀字", "𠀀字"),
    ],
)
def test_case_width_marks_and_spaces_are_folded_away(lang: str, text: str, result: str) -> None:
    assert folded(text, lang) == (result if result != "！？。。" else "!?。。")


@given(SHORT)
def test_folding_twice_is_folding_once(text: str) -> None:
    for lang in ("en", "zh"):
        assert folded(folded(text, lang), lang) == folded(text, lang)


@given(SHORT, SHORT)
def test_digests_are_equal_exactly_for_equal_folds(first: str, second: str) -> None:
    one, two = fold(first, "en"), fold(second, "en")
    assert (digest_of(one) == digest_of(two)) == (one.tolist() == two.tolist())


@given(SHORT, SHORT, st.integers(1, 6))
def test_similarity_is_that_of_the_sets_of_ngrams(first: str, second: str, n: int) -> None:
    def ngrams(text: str) -> set[str]:
        size = max(1, min(n, len(text)))
        return {text[i : i + size] for i in range(len(text) - size + 1)}

    one, two = ngrams(folded("x" + first, "en")), ngrams(folded("x" + second, "en"))
    found = jaccard(shingles_of(fold("x" + first, "en"), n), shingles_of(fold("x" + second, "en"), n))
    assert found == pytest.approx(len(one & two) / len(one | two))


def test_texts_shorter_than_a_shingle_are_not_all_alike() -> None:
    assert jaccard(shingles_of(fold("ab", "en"), 5), shingles_of(fold("cd", "en"), 5)) == 0
    assert jaccard(shingles_of(fold("ab", "en"), 5), shingles_of(fold("ab", "en"), 5)) == 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_unrelated_texts_share_little(lang: str) -> None:
    n = {"en": 5, "zh": 3}[lang]
    sets = [shingles_of(fold(make_text(lang, seed, 3000), lang), n) for seed in range(6)]
    assert max(jaccard(a, b) for i, a in enumerate(sets) for b in sets[:i]) < 0.3
