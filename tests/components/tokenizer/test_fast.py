"""The fast way to ids: the same as the library's for every text, or not taken."""

from __future__ import annotations

import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from components.tokenizer.fast import fast_encoder
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import SPECIAL_TOKENS
from components.tokenizer.train import BYTE_LETTERS, train_bpe

FRAMES = ("a{}b", "1{}中", " {}{}\n", "{}'s", "\t{} ", "'{}")


@pytest.fixture(scope="module")
def trained(make_sentences) -> Tokenizer:
    tokenizer = train_bpe(make_sentences(400), 700, 2)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def fast(trained: Tokenizer):
    encode = fast_encoder(trained.to_str())
    assert encode is not None
    return encode


def by_library(trained: Tokenizer, text: str) -> list[int]:
    return trained.encode(text, add_special_tokens=False).ids


_words = st.sampled_from(
    [
        "river",
        "bread",
        "it's",
        "they'LL",
        "今天天气",
        "好看",
        "12345",
        "\u0301",
        "〇",
        "々",
        "ſ",
        "K",
        "'s",
        "\u2028",
        "\x85",
        "\u3000",
    ]
)
_text = st.one_of(
    st.text(max_size=80),
    st.lists(st.one_of(_words, st.sampled_from([" ", "\n", "\r\n", "  ", "\t", "。", "--", "'"])), max_size=30).map(
        "".join
    ),
)


@given(text=_text)
@settings(max_examples=300)
def test_ids_equal_those_of_the_library(trained: Tokenizer, fast, text: str):
    assert fast(text) == by_library(trained, text)


def codes_of_each_category(count: int) -> list[int]:
    """Some code points of every general category and of every start of a plane or block."""
    of: dict[str, list[int]] = {}
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            of.setdefault(unicodedata.category(chr(code)), []).append(code)
    draw = random.Random(0)
    return sorted({code for codes in of.values() for code in (codes[0], codes[-1], *draw.choices(codes, k=count))})


def differing(trained: Tokenizer, fast, codes: list[int]) -> list[tuple[str, str]]:
    different = []
    for frame in FRAMES:
        texts = [frame.replace("{}", chr(code)) for code in codes]
        rows = trained.encode_batch_fast(texts, add_special_tokens=False)
        different += [
            (frame, hex(code)) for code, text, row in zip(codes, texts, rows, strict=True) if fast(text) != row.ids
        ]
    return different


def test_the_two_regex_engines_cut_alike_around_characters_of_every_category(trained: Tokenizer, fast):
    assert differing(trained, fast, codes_of_each_category(150)) == []


@pytest.mark.slow
def test_the_two_regex_engines_cut_alike_around_every_code_point(trained: Tokenizer, fast):
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert differing(trained, fast, codes) == []


@pytest.mark.parametrize("length", [63, 64, 65, 66, 127, 128, 129, 200, 1000])
@pytest.mark.parametrize("space", [" ", "\n", " \n", "\t ", "\u3000"])
def test_runs_of_white_space_are_cut_alike(trained: Tokenizer, fast, space: str, length: int):
    for text in (space * length, f"a{space * length}b", f"{space * length}。", f"好{space * length}\n好"):
        assert fast(text) == by_library(trained, text)


@pytest.mark.parametrize("unit", ["a", "中", "中国", " ", " \t", "\n", " \n", "=", "ab"])
def test_a_megabyte_without_a_place_to_cut_is_encoded(trained: Tokenizer, fast, unit: str):
    text = unit * (1_000_000 // len(unit.encode()))
    ids = fast(text)
    assert TextTokenizer(trained).bytes_of(ids) == len(text.encode())


def test_a_whole_word_of_random_letters_is_merged_alike(trained: Tokenizer, fast):
    draw = random.Random(3)
    for alphabet in ("ab", "breadivwt", "今天气好看书", "\u0301e'"):
        for _ in range(100):
            text = "".join(draw.choices(alphabet, k=draw.randint(1, 60)))
            assert fast(text) == by_library(trained, text)


def test_a_tokenizer_of_ours_takes_the_fast_way(trained: Tokenizer):
    assert TextTokenizer(trained).is_fast


def with_merges(trained: Tokenizer, merges: list[list[str]]) -> str:
    values = json.loads(trained.to_str())
    names = [*SPECIAL_TOKENS, *BYTE_LETTERS, *dict.fromkeys(a + b for a, b in merges)]
    values["model"] |= {"vocab": {name: index for index, name in enumerate(names)}, "merges": merges}
    return json.dumps(values)


@pytest.mark.parametrize(
    "merges",
    [
        [["b", "c"], ["a", "b"], ["ab", "c"]],  # "abc" is a, bc by pairs, but one token by rank
        [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]],  # one token made in two ways
        [["ab", "c"], ["a", "b"]],  # a part that comes later
    ],
)
def test_a_vocabulary_whose_merges_are_not_told_by_ranks_is_left_to_the_library(trained: Tokenizer, merges):
    description = with_merges(trained, merges)
    assert fast_encoder(description) is None
    tokenizer = TextTokenizer(Tokenizer.from_str(description))
    assert tokenizer.decode(tokenizer.encode("abcabc")) == "abcabc"


def test_merges_that_ranks_do_tell_are_taken(trained: Tokenizer):
    encode = fast_encoder(with_merges(trained, [["b", "c"], ["a", "bc"]]))
    assert encode is not None
    assert encode("abc") == [len(SPECIAL_TOKENS) + len(BYTE_LETTERS) + 1]


def changed(trained: Tokenizer, how: str) -> str:
    tokenizer = Tokenizer.from_str(trained.to_str())
    if how == "normalizer":
        tokenizer.normalizer = normalizers.NFC()
    elif how == "pattern":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif how == "added token":
        tokenizer.add_tokens([AddedToken("river", normalized=False)])
    elif how == "truncation":
        tokenizer.enable_truncation(4)
    return tokenizer.to_str()


@pytest.mark.parametrize("how", ["normalizer", "pattern", "added token", "truncation"])
def test_whatever_else_stands_between_text_and_ids_is_left_to_the_library(trained: Tokenizer, how: str):
    assert fast_encoder(changed(trained, how)) is None
