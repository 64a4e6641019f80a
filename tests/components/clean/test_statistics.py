"""The statistics of a text, by hand and against slow and plain definitions."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.clean.characters import classify, codes_of
from components.clean.statistics import measure
from components.clean.words import distinct_share, hash_words, repeated_share, top_share

ENGLISH = "The river rose two metres in one night, and by morning the lower street was under water."
CHINESE = "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。"
WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")
ALPHABET = st.text(st.sampled_from("ab1 ,\n河水的x"), max_size=60)


def hashes(text: str) -> list[int]:
    codes = codes_of(text.lower())
    return hash_words(codes, classify(codes)).tolist()


@given(ALPHABET)
def test_words_are_runs_of_letters_and_single_hanzi(text: str) -> None:
    words = WORD.findall(text.lower())
    found = hashes(text)
    assert len(found) == len(words)
    assert [found.index(one) for one in found] == [words.index(one) for one in words]


@given(ALPHABET, st.integers(1, 4))
def test_shares_of_ngrams_are_those_of_a_plain_count(text: str, n: int) -> None:
    codes = codes_of(text.lower())
    words = hash_words(codes, classify(codes))
    plain = WORD.findall(text.lower())
    ngrams = Counter(tuple(plain[i : i + n]) for i in range(len(plain) - n + 1))
    total = sum(ngrams.values())
    assert repeated_share(words, n) == pytest.approx(1 - len(ngrams) / total if total else 0)
    most = max(ngrams.values(), default=1)
    assert top_share(words, n) == pytest.approx(min(1, (most - 1) * n / len(plain)) if total else 0)


def test_distinct_words_are_counted_in_windows_of_equal_length() -> None:
    codes = codes_of("a b a b " * 50 + "c d e f " * 50)
    words = hash_words(codes, classify(codes))
    assert distinct_share(words, 100) == pytest.approx((0.02 + 0.02 + 0.04 + 0.04) / 4)
    assert distinct_share(words[:3], 100) == pytest.approx(2 / 3)


def test_the_numbers_of_an_english_sentence() -> None:
    numbers = measure(ENGLISH)
    assert (numbers.chars, numbers.words, numbers.lines) == (len(ENGLISH), 17, 1)
    assert numbers.line_columns == len(ENGLISH)
    assert numbers.punctuation_share == pytest.approx(2 / len(ENGLISH.replace(" ", "")))
    assert numbers.letter_share == pytest.approx(1 - numbers.punctuation_share)
    assert numbers.function_word_share == pytest.approx(6 / 17)  # the, in, and, by, the, was
    assert numbers.mojibake_share == numbers.symbol_share == numbers.digit_share == 0


def test_the_numbers_of_a_chinese_sentence() -> None:
    numbers = measure(CHINESE)
    assert (numbers.chars, numbers.words, numbers.lines) == (len(CHINESE), len(CHINESE) - 3, 1)
    assert numbers.line_columns == 2 * len(CHINESE) - 3
    assert numbers.punctuation_share == pytest.approx(3 / len(CHINESE))
    assert numbers.letter_share == pytest.approx(1 - 3 / len(CHINESE))
    assert numbers.mojibake_share == 0
    assert numbers.function_word_share > 0.1


@pytest.mark.parametrize(
    "garbled",
    [
        CHINESE.encode().decode("latin-1"),
        CHINESE.encode().decode("cp1252", "replace"),
        CHINESE.encode().decode("gbk", "replace"),
        "".join(char for char in CHINESE.encode().decode("gbk", "ignore") if "\u4e00" <= char <= "\u9fff"),
        CHINESE.encode("gbk").decode("latin-1"),
        CHINESE.encode("gbk").decode("utf-8", "replace"),
        CHINESE.encode("gbk").decode("big5", "replace"),
        "\ufffd" * 5 + ENGLISH,
    ],
)
def test_text_read_in_a_wrong_encoding_shows_as_mojibake(garbled: str) -> None:
    assert measure(garbled).mojibake_share > 0.05


@pytest.mark.parametrize(
    "sound",
    [
        CHINESE,
        "昨天夜裡河水漲了兩米，到了早上，下街已經全部泡在水裡。",
        "「真的嗎……」她說——然後笑了。",
        "Créée à l’été, « élevée » par Noël : voilà l’œuvre.",
        "Größe, Maße, Füße, Öl und Äpfel für die Straße.",
        "昨夜は川の水が二メートルも上がった。",
        "Ночью река поднялась на два метра.",
        "It’s fine — “really” — she said… 😀",
    ],
)
def test_sound_text_in_any_language_shows_none(sound: str) -> None:
    assert measure(sound).mojibake_share == 0


def test_an_address_counts_as_url_up_to_the_hanzi_behind_it() -> None:
    assert measure("看http://example.org/a看").url_share == pytest.approx(20 / 22)


def test_repeated_lines_count_from_their_second_time() -> None:
    assert measure("abcd\nab\nabcd\nabcd").duplicate_line_share == pytest.approx(8 / 14)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "\U0001f600", "𠀀", "\u200d"])
def test_odd_texts_have_finite_numbers(text: str) -> None:
    assert all(value == value and value >= 0 for value in vars(measure(text)).values())


@given(st.text(max_size=200))
def test_shares_are_shares_and_the_same_every_time(text: str) -> None:
    numbers = vars(measure(text))
    assert all(0 <= value <= 1 for name, value in numbers.items() if name.endswith("_share"))
    assert vars(measure(text)) == numbers
