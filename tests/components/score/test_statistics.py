"""The statistics of a text, by hand and against slow and plain definitions."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.score.characters import classify, codes_of, lower
from components.score.names import STATISTICS
from components.score.normalise import normalise
from components.score.phrases import make_phrases
from components.score.statistics import MEASURED, measure, measure_batch
from components.score.words import find_words

ENGLISH = "The river rose two metres in one night, and by morning the lower street was under water."
CHINESE = "昨天夜里河水涨了两米，到了早上，下街已经全部泡在水里。"
WORD = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")
ALPHABET = st.text(st.sampled_from("ab1 ,\n河水的x"), max_size=60)


REPEATED = st.lists(st.sampled_from(["a", "b", "河", "a b a b a b a", "河水河水河水河水河水河"]), max_size=14).map(
    " ".join
)
LINES = st.lists(st.sampled_from(["", "ab", "ab.", " ab", "- ab", "河水", "河水。", "a b c"]), max_size=12).map(
    "\n".join
)


def hashes(text: str) -> list[int]:
    codes = codes_of(text + "\n")
    found: list[int] = find_words(lower(codes), classify(codes), np.array([len(codes)])).hashes.tolist()
    return found


def ngrams_of(text: str, n: int) -> tuple[list[str], Counter[tuple[str, ...]]]:
    """The words of a text and its n-grams, counted plainly; n is doubled where most words are hanzi."""
    words = WORD.findall(text.lower())
    n *= 2 if 2 * sum(word > "\u2fff" for word in words) > len(words) else 1
    return words, Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@given(ALPHABET)
def test_words_are_runs_of_letters_and_single_hanzi(text: str) -> None:
    words = WORD.findall(text.lower())
    found = hashes(text)
    assert len(found) == len(words)
    assert [found.index(one) for one in found] == [words.index(one) for one in words]


@given(st.one_of(ALPHABET, REPEATED))
def test_shares_of_repeated_and_most_frequent_ngrams_are_those_of_a_plain_count(text: str) -> None:
    numbers = measure(text)
    words, fives = ngrams_of(text, 5)
    total = sum(fives.values())
    assert numbers["repeated_ngram_share"] == pytest.approx(1 - len(fives) / total if total else 0)
    words, threes = ngrams_of(text, 3)
    most = max(threes.values(), default=1)
    n = len(next(iter(threes), ()))
    assert numbers["top_ngram_share"] == pytest.approx(min(1, (most - 1) * n / len(words)) if threes else 0)


@given(st.one_of(ALPHABET, REPEATED), st.integers(2, 4))
def test_the_ngram_that_takes_most_is_that_of_a_plain_count(text: str, n: int) -> None:
    words, ngrams = ngrams_of(text, n)
    taken = [sum(map(len, ngram)) * count for ngram, count in ngrams.items() if count > 1]
    share = min(1.0, max(taken, default=0) / max(1, sum(map(len, words))))
    assert measure(text)[f"top_{n}gram_share"] == pytest.approx(share)


@given(st.one_of(ALPHABET, REPEATED), st.integers(5, 10))
def test_characters_in_repeated_ngrams_are_those_of_a_plain_walk(text: str, n: int) -> None:
    words, ngrams = ngrams_of(text, n)
    size = len(next(iter(ngrams), ()))
    seen, covered = set(), set()
    for start in range(len(words) - size + 1 if size else 0):
        ngram = tuple(words[start : start + size])
        covered.update(range(start, start + size) if ngram in seen else ())
        seen.add(ngram)
    share = sum(len(words[place]) for place in covered) / max(1, sum(map(len, words)))
    assert measure(text)[f"duplicate_{n}gram_share"] == pytest.approx(share)


@given(LINES)
def test_lines_and_paragraphs_are_those_of_a_plain_count(text: str) -> None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs = [part for part in re.split(r"\n(?:[ ]*\n)+", text) if part.strip()]
    numbers = measure(text)
    most, chars = max(1, len(lines)), max(1, sum(map(len, lines)))
    assert (numbers["lines"], numbers["paragraphs"]) == (len(lines), len(paragraphs))
    assert numbers["duplicate_lines"] == pytest.approx((len(lines) - len(set(lines))) / most)
    repeated = sum(len(line) for line in lines) - sum(len(line) for line in set(lines))
    assert numbers["duplicate_line_share"] == pytest.approx(repeated / chars)
    assert numbers["terminal_line_share"] == pytest.approx(sum(line[-1] in ".。" for line in lines) / most)
    assert numbers["bullet_line_share"] == pytest.approx(sum(line[0] == "-" for line in lines) / most)
    seen = {part.strip("\n ") for part in paragraphs}
    assert numbers["duplicate_paragraphs"] == pytest.approx((len(paragraphs) - len(seen)) / max(1, len(paragraphs)))


@given(st.lists(st.one_of(ALPHABET, REPEATED, LINES, st.text(max_size=30)), max_size=8))
def test_the_batch_a_text_is_in_changes_none_of_its_numbers(texts: list[str]) -> None:
    batch = measure_batch(texts)
    for row, text in enumerate(texts):
        assert {name: float(values[row]) for name, values in batch.items()} == measure(text)


def test_distinct_words_are_counted_in_windows_of_equal_length() -> None:
    text = "a b a b " * 50 + "c d e f " * 50
    assert measure(text)["distinct_word_share"] == pytest.approx((0.02 + 0.02 + 0.04 + 0.04) / 4)
    assert measure("a b a")["distinct_word_share"] == pytest.approx(2 / 3)


def test_the_numbers_of_an_english_sentence() -> None:
    numbers = measure(ENGLISH)
    assert (numbers["chars"], numbers["words"], numbers["lines"]) == (len(ENGLISH), 17, 1)
    assert numbers["line_columns"] == len(ENGLISH)
    assert numbers["punctuation_share"] == pytest.approx(2 / len(ENGLISH.replace(" ", "")))
    assert numbers["letter_share"] == pytest.approx(1 - numbers["punctuation_share"])
    assert numbers["function_word_share"] == pytest.approx(6 / 17)  # the, in, and, by, the, was
    assert numbers["mojibake_share"] == numbers["symbol_share"] == numbers["digit_share"] == 0


def test_the_numbers_of_a_chinese_sentence() -> None:
    numbers = measure(CHINESE)
    assert (numbers["chars"], numbers["words"], numbers["lines"]) == (len(CHINESE), len(CHINESE) - 3, 1)
    assert numbers["line_columns"] == 2 * len(CHINESE) - 3
    assert numbers["punctuation_share"] == pytest.approx(3 / len(CHINESE))
    assert numbers["letter_share"] == pytest.approx(1 - 3 / len(CHINESE))
    assert numbers["mojibake_share"] == 0
    assert numbers["function_word_share"] > 0.1


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
    assert measure(garbled)["mojibake_share"] > 0.05


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
    assert measure(sound)["mojibake_share"] == 0


def test_an_address_counts_as_url_up_to_the_hanzi_behind_it() -> None:
    assert measure("看http://example.org/a看")["url_share"] == pytest.approx(20 / 22)


def test_repeated_lines_count_from_their_second_time() -> None:
    assert measure("abcd\nab\nabcd\nabcd")["duplicate_line_share"] == pytest.approx(8 / 14)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "\U0001f600", "𠀀", "\u200d"])
def test_odd_texts_have_finite_numbers(text: str) -> None:
    assert all(value == value and value >= 0 for value in measure(text).values())


@given(st.text(max_size=200))
def test_shares_are_shares_and_the_same_every_time(text: str) -> None:
    numbers = measure(text)
    assert all(0 <= value <= 1 for name, value in numbers.items() if name.endswith("_share"))
    assert measure(text) == numbers


def test_every_statistic_has_a_name_that_says_what_it_is() -> None:
    assert tuple(measure("")) == MEASURED == tuple(name for name in STATISTICS if not name.startswith("pii_"))


def test_a_page_of_notices_and_filler_shows_in_its_statistics() -> None:
    text = "Please enable JavaScript.\nWe use cookies, see our Privacy Policy\nLorem ipsum dolor {sit}\nRead more..."
    numbers = measure(text)
    assert numbers["javascript_line_share"] == numbers["policy_line_share"] == pytest.approx(1 / 4)
    assert numbers["lorem_ipsum"] == 1
    assert numbers["ellipsis_line_share"] == pytest.approx(1 / 4)
    assert numbers["curly_share"] > 0
    assert numbers["prompt_word_share"] == pytest.approx(2 / numbers["words"])


def test_chinese_notices_and_prompts_are_known_too() -> None:
    numbers = measure("版权所有 2024\n点击查看更多\n河水涨了")
    assert numbers["policy_line_share"] == pytest.approx(1 / 3)
    assert numbers["prompt_word_share"] == pytest.approx(6 / numbers["words"])  # 点击查看 and 查看更多 share two hanzi


def test_scripts_and_capitals_are_told_apart() -> None:
    numbers = measure("ABcd 河水 かな Дом")
    visible = 4 + 2 + 2 + 3
    assert numbers["latin_share"] == pytest.approx(4 / visible)
    assert numbers["han_share"] == numbers["kana_share"] == pytest.approx(2 / visible)
    assert numbers["other_script_share"] == pytest.approx(3 / visible)
    assert numbers["upper_share"] == pytest.approx(3 / 7)


def test_sentences_end_at_their_marks_and_not_inside_numbers() -> None:
    assert measure('He had 3.5 km. "Really?" Yes... 真的吗？是的。')["sentences"] == 5


def test_words_of_the_given_list_are_counted_in_both_languages() -> None:
    toxic = make_phrases({0: ["Damn fool", "混蛋", "", "!?"]})
    assert measure("You damn FOOL, you fool. 他是混蛋", toxic)["toxic_word_share"] == pytest.approx(4 / 9)
    assert measure("You damn FOOL")["toxic_word_share"] == 0


def test_of_a_giant_text_only_the_beginning_is_measured_but_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.score.statistics.MAX_CHARS", 10)
    numbers = measure("ab cd ef g " + "9" * 100)
    assert numbers["chars"] == 111
    assert numbers["words"] == 4
    assert numbers["digit_share"] == 0


def test_a_single_point_at_the_beginning_of_a_batch_is_no_ellipsis() -> None:
    assert measure(".")["ellipsis_line_share"] == 0
    assert measure_batch([".", ".."])["ellipsis_line_share"].tolist() == [0, 1]


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=120), ALPHABET, REPEATED, LINES), min_size=1, max_size=4))
def test_ten_thousand_batches_of_any_text_have_finite_numbers_of_their_own(texts: list[str]) -> None:
    batch = measure_batch([normalise(text) for text in texts])
    for row, text in enumerate(texts):
        numbers = {name: float(values[row]) for name, values in batch.items()}
        assert numbers == measure(normalise(text))
        assert all(0 <= value < 1e6 for value in numbers.values())
        assert all(value <= 1 for name, value in numbers.items() if name.endswith("_share"))
