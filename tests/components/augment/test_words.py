"""Words and edits: the text comes back, and each operation does what it says and no more."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.augment.config import OPERATIONS
from components.augment.edits import varied
from components.augment.words import longest_match, split

SEGMENT = longest_match(["天气", "今天", "天气预报"])
SYNONYMS = {"glad": ("happy", "cheerful"), "天气": ("气候",), "big": ("large",)}
_text = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["Glad", "big", "dog's", "今天天气", "好", ", ", " ", ".\n", "。"]), max_size=20).map(
        "".join
    ),
)


@given(text=_text)
def test_the_parts_of_a_text_join_to_the_text(text: str):
    assert split(text, SEGMENT).joined() == text


def test_words_are_found_in_both_languages():
    parts = split("It's 3 o'clock: 今天天气预报好abc。", SEGMENT)
    assert parts.words == ("It's", "3", "o'clock", "今天", "天气预报", "好", "abc")
    assert parts.gaps == ("", " ", " ", ": ", "", "", "", "。")


def edit(text: str, operation: str, rate: float, seed: int = 0) -> str:
    return varied(split(text, SEGMENT), operation, rate, SYNONYMS, random.Random(seed)).joined()


def test_a_word_is_replaced_by_one_of_its_synonyms_with_its_capitals():
    assert {edit("Glad. It is", "replace", 0.1, seed) for seed in range(20)} == {"Happy. It is", "Cheerful. It is"}
    assert edit("BIG dog", "replace", 0.1) == "LARGE dog"
    assert edit("今天天气好", "replace", 0.1) == "今天气候好"


def test_as_many_words_are_replaced_as_the_rate_says():
    text = " ".join(["big"] * 20)
    assert edit(text, "replace", 0.25).split().count("large") == 5
    assert edit(text, "replace", 0.01).split().count("large") == 1


def test_a_synonym_is_inserted_with_a_space_only_where_the_script_has_them():
    assert edit("big dogs run.", "insert", 0.1, 1).replace(" large", "", 1) == "big dogs run."
    assert edit("天气好", "insert", 0.1).replace("气候", "", 1) == "天气好"


@given(text=_text, seed=st.integers(0, 50))
def test_a_swap_keeps_all_words_and_all_that_stands_between(text: str, seed: int):
    before = split(text, SEGMENT)
    after = varied(before, "swap", 0.2, SYNONYMS, random.Random(seed))
    assert Counter(after.words) == Counter(before.words)
    assert after.gaps == before.gaps


@given(seed=st.integers(0, 200))
def test_deletion_leaves_some_words_in_their_order_and_all_marks(seed: int):
    text = "The dog, the cat. And a bird!"
    after = edit(text, "delete", 0.5, seed)
    left = split(after, SEGMENT).words
    words = iter(split(text, SEGMENT).words)
    assert left
    assert all(word in words for word in left)  # each is found after the one before
    assert after.endswith("!")


def test_deletion_takes_the_share_that_the_rate_says():
    text = " ".join(f"word{number}" for number in range(2000))
    assert len(edit(text, "delete", 0.3).split()) == pytest.approx(1400, abs=80)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(text=_text, seed=st.integers(0, 30))
def test_an_operation_gives_the_same_for_the_same_seed(operation: str, text: str, seed: int):
    if split(text, SEGMENT).words:
        assert edit(text, operation, 0.2, seed) == edit(text, operation, 0.2, seed)


@pytest.mark.parametrize("operation", ["replace", "insert"])
def test_without_synonyms_the_text_stays(operation: str):
    assert edit("nothing known here", operation, 0.5) == "nothing known here"
