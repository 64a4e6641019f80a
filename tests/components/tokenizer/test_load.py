"""Text and ids: every text comes back, and none of them makes a special id."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from components.errors import StepError
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import ROLE_IDS, SPECIAL_TOKENS
from components.tokenizer.train import train_bpe

TEXTS = [
    "The quick brown fox doesn't jump over 1234 lazy dogs. <|end|> said the fox, <|end|> said the dog.\n\n",
    "今天天气很好，我们去公园散步吧。「你好」，他说：你好！\n这本书很好看，值得一读。",
] * 5

any_text = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*SPECIAL_TOKENS, " ", "\n", "<|", "|>", "end", "你好", "é"]), max_size=12).map("".join),
)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(train_bpe(TEXTS, vocab_size=380, min_frequency=2))


@given(text=any_text)
def test_every_text_comes_back_from_its_ids(tokenizer: TextTokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=any_text)
def test_no_text_makes_a_special_id(tokenizer: TextTokenizer, text: str):
    assert all(index >= len(SPECIAL_TOKENS) for index in tokenizer.encode(text))


@given(text=any_text)
def test_ids_stand_for_exactly_the_bytes_of_the_text(tokenizer: TextTokenizer, text: str):
    assert tokenizer.bytes_of([1, *tokenizer.encode(text), 2]) == len(text.encode())


@given(texts=st.lists(any_text, max_size=4))
def test_a_batch_is_encoded_like_its_texts_one_by_one(tokenizer: TextTokenizer, texts: list[str]):
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_a_corpus_that_spells_out_special_tokens_does_not_teach_them(tokenizer: TextTokenizer):
    learned = TextTokenizer(train_bpe(["<|end|><|user|>" * 50, *TEXTS], vocab_size=380, min_frequency=2))
    assert min(learned.encode("<|end|><|user|>")) >= len(SPECIAL_TOKENS)
    assert learned.decode(learned.encode("<|end|><|user|>")) == "<|end|><|user|>"


def test_special_tokens_have_their_fixed_ids_and_are_left_out_of_text(tokenizer: TextTokenizer):
    assert ROLE_IDS == {"system": 3, "user": 4, "assistant": 5}
    assert tokenizer.decode(range(7)) == ""
    assert tokenizer.vocab_size == 380


def test_the_vocabulary_does_not_depend_on_the_order_of_documents():
    texts = [
        " ".join(random.Random(number).choices(TEXTS[0].split() + TEXTS[1].split("，"), k=30)) for number in range(40)
    ]
    trained = {train_bpe(random.Random(order).sample(texts, 40), 500, 2).to_str() for order in range(4)}
    assert len(trained) == 1


@pytest.mark.parametrize("before", ["「", "，", "abc", "12", " ", "\n"])
def test_a_run_of_chinese_is_a_piece_of_its_own_whatever_is_around_it(before: str):
    pieces = train_bpe(TEXTS, 300, 2).pre_tokenizer.pre_tokenize_str(f"{before}你好世界{before}")
    places = [place for _, place in pieces]
    assert (len(before), len(before) + 4) in places


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It's 2024, isn't it?", ["It", "'s", " 20", "24", ",", " isn", "'t", " it", "?"]),
        ("a  b\n\n c", ["a", " ", " b", "\n\n", " c"]),
        ("(foo) <b>", ["(foo", ")", " <", "b", ">"]),
        ("naïve e\u0301t", ["naïve", " e\u0301t"]),
    ],
)
def test_text_is_cut_into_words_with_their_space_digits_by_two_and_marks(text: str, pieces: list[str]):
    places = [place for _, place in train_bpe(TEXTS, 300, 2).pre_tokenizer.pre_tokenize_str(text)]
    assert [text[start:end] for start, end in places] == pieces


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(StepError, match="no tokenizer here"):
        TextTokenizer.from_folder(tmp_path)


def test_a_damaged_tokenizer_is_refused_with_its_path(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(StepError, match="cannot be read") as caught:
        TextTokenizer.from_folder(tmp_path)
    assert str(tmp_path) in caught.value.where


def test_a_tokenizer_without_our_special_tokens_is_refused(tmp_path: Path):
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(StepError, match="not at ids 0 to 6"):
        TextTokenizer.from_folder(tmp_path)
