"""Every kind of tokenizer: text comes back, bytes are counted right, and no text makes a special id."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from components.tokenizer.counting import count_texts
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import SPECIAL_TOKENS
from components.tokenizer.train import TIE, _repeated, train, train_bpe

NUM_SPECIAL = len(SPECIAL_TOKENS)
LOOK_ALIKES = ("＜|end|＞", "<｜end｜>", "<\u200b|end|>", "‹|end|›", "<|еnd|>", "<|END|>", "<|end\u0301|>")
PARTS = [*SPECIAL_TOKENS, *LOOK_ALIKES, "<|", "|>", "<", "|", "end", "pad", "bos", "Ġ", TIE, "##", "▁", "</w>", "[UNK]"]
any_text = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*PARTS, " ", "\n", "\t", "你好", "é", "😀", "\x00"]), max_size=12).map("".join),
)


def random_text(count: int, seed: int) -> str:
    """Code points drawn at random from all that have a UTF-8 form."""
    draw = random.Random(seed)
    codes = (draw.randrange(0x110000 - 0x800) for _ in range(count))
    return "".join(chr(code if code < 0xD800 else code + 0x800) for code in codes)


@given(text=any_text)
@settings(max_examples=150)
def test_text_comes_back_without_a_special_id_and_with_its_bytes_counted(any_kind: TextTokenizer, text: str):
    ids = any_kind.encode(text)
    assert any_kind.decode(ids) == text
    assert all(index >= NUM_SPECIAL for index in ids)
    assert any_kind.bytes_of([1, *ids, 2]) == len(text.encode())


@pytest.mark.parametrize("text", [*SPECIAL_TOKENS, *LOOK_ALIKES, "".join(SPECIAL_TOKENS), "x<|end|><|user|>y"])
def test_a_special_token_spelt_out_is_ordinary_text(any_kind: TextTokenizer, text: str):
    assert min(any_kind.encode(text)) >= NUM_SPECIAL
    assert any_kind.decode(any_kind.encode(text)) == text


def test_random_code_points_come_back(any_kind: TextTokenizer):
    for seed in range(20):
        text = random_text(2_000, seed)
        assert any_kind.decode(any_kind.encode(text)) == text


def test_the_exported_folder_gives_the_same_ids_in_transformers(
    any_kind: TextTokenizer, tmp_path: Path, make_sentences
):
    from transformers import AutoTokenizer

    any_kind._tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    ours, theirs = TextTokenizer.from_folder(tmp_path), AutoTokenizer.from_pretrained(str(tmp_path))
    for text in [*make_sentences(40, seed=9), random_text(500, 1), "  a \n\n\n b\t\t", "don't DON'T", "x" * 300]:
        ids = theirs(text, add_special_tokens=False).input_ids
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
    assert theirs("river").input_ids == [1, *ours.encode("river")]


def test_training_text_that_spells_out_special_tokens_teaches_none(make_sentences):
    texts = ["<|end|><|user|>" * 50, *make_sentences(300)]
    for kind, size in (("bpe", 400), ("unigram", 400), ("wordpiece", 700), ("word", 340), ("character", 320)):
        learned = TextTokenizer(train(kind, "none", count_texts(texts, kind), size, 2))
        assert min(learned.encode("<|end|><|user|><|pad|>")) >= NUM_SPECIAL


def tokens_of(tokenizer: TextTokenizer, text: str) -> list[str]:
    return [tokenizer.decode([index]) for index in tokenizer.encode(text)]


def trained(kind: str, texts: list[str], size: int, segmenter: str = "none") -> TextTokenizer:
    return TextTokenizer(train(kind, segmenter, count_texts(texts, kind, segmenter), size, 2))


def test_characters_are_one_token_each_and_unknown_ones_their_bytes():
    tokenizer = trained("character", ["你好你好吗"] * 3 + ["世"], 266)
    assert tokens_of(tokenizer, "你好a") == ["你", "好", "a"]
    assert len(tokenizer.encode("世")) == 3


def test_known_words_are_one_token_with_their_space_and_unknown_ones_their_bytes():
    tokenizer = trained("word", ["the river the river the river, 河水"] * 3, 270)
    assert tokens_of(tokenizer, "the river the") == ["the", " river", " the"]
    assert len(tokenizer.encode("riverbed")) == len("riverbed")
    assert tokens_of(tokenizer, "河水") == ["河", "水"]


def test_jieba_teaches_chinese_words_which_are_then_found_without_it():
    pytest.importorskip("jieba", reason="the optional package jieba is not installed")
    tokenizer = trained("word", ["我们在北京天安门广场散步。", "北京的天安门广场很大。"] * 5, 275, "jieba")
    assert "北京" in tokens_of(tokenizer, "他们在北京散步")
    assert "天安门广场" in tokens_of(tokenizer, "天安门广场在北京")


def test_wordpiece_takes_the_longest_match_and_knows_the_inside_of_a_word():
    tokenizer = trained("wordpiece", ["walking walking walking talking talking king king"] * 5, 576)
    pieces = [tokenizer._tokenizer.id_to_token(index) for index in tokenizer.encode(" walking")]
    assert pieces[0].startswith("Ġ")
    assert all(piece.startswith(TIE) for piece in pieces[1:])
    assert tokenizer.decode(tokenizer.encode(TIE + "king")) == TIE + "king"


@pytest.mark.parametrize("text", ["a", "中", " ", "\n", "=", " \t", " \n", "ab ", "中国"])
def test_a_long_run_of_anything_takes_time_in_proportion(any_kind: TextTokenizer, text: str):
    run = text * (20_000 // len(text))
    assert any_kind.decode(any_kind.encode(run)) == run  # with the square of the length, minutes


@pytest.mark.parametrize("count", [1, 7, 99_999, 250_001])
def test_the_trainer_is_fed_every_piece_as_often_as_it_was_counted(count: int):
    fed = Counter(" ".join(_repeated([("ab", count), ("c", 2)])).split())
    assert fed == {"ab": count, "c": 2}


def test_merges_are_those_of_the_librarys_trainer_on_the_texts_themselves(make_sentences):
    texts = make_sentences(300)
    ours = train_bpe(texts, 500, 2)
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = ours.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"max_token_length": 24, "show_progress": False, "initial_alphabet": alphabet}
    trainer = trainers.BpeTrainer(vocab_size=500, min_frequency=2, special_tokens=list(SPECIAL_TOKENS), **settings)
    theirs.train_from_iterator(texts, trainer)
    assert json.loads(ours.to_str())["model"] == json.loads(theirs.to_str())["model"]


@pytest.mark.slow
def test_ten_million_random_code_points_come_back(make_sentences):
    tokenizer = trained("bpe", make_sentences(300), 500)
    for seed in range(100):
        text = random_text(100_000, seed)
        assert tokenizer.decode(tokenizer.encode(text)) == text
