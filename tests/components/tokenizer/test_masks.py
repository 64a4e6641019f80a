"""Masks: special tokens for what a model is to fill in, where they are asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from components.context import local_context
from components.documents import Document, Outcome, make_doc_id, write_shard, write_summary
from components.errors import ConfigError, StepError
from components.tokenizer.config import KINDS, TokenizerConfig
from components.tokenizer.counting import count_texts
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import MASK, SPECIAL_TOKENS, special_tokens
from components.tokenizer.step import tokenizer
from components.tokenizer.train import train, train_bpe

TEXTS = ["the cat sat on the mat while another dog ran after something else. 你好，今天天气很好。"] * 4
NAMES = ["<|mask|>", "<|mask_1|>", "<|mask_2|>"]


def trained(kind: str, num_masks: int) -> TextTokenizer:
    return TextTokenizer(train(kind, "none", count_texts(TEXTS, kind), 620, 2, num_masks))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_lie_behind_the_seven_and_leave_everything_else_as_it_was(kind: str) -> None:
    with_masks, without = trained(kind, 3), trained(kind, 0)
    assert [with_masks._tokenizer.id_to_token(MASK + number) for number in range(3)] == NAMES
    assert (with_masks.num_masks, without.num_masks) == (3, 0)
    assert (with_masks.num_special, without.num_special) == (10, 7)
    text = "the cat <|mask|> 你好 <|mask_1|>"
    assert with_masks.decode(with_masks.encode(text)) == text
    assert [index - 3 for index in with_masks.encode("the cat")] == without.encode("the cat")


@given(st.lists(st.sampled_from([*NAMES, " ", "mask", "<|", "|>", "你", "é"]), max_size=10))
def test_no_text_gives_a_mask(parts: list[str]) -> None:
    tokens = trained("bpe", 3)
    ids = tokens.encode("".join(parts))
    assert all(index >= 10 for index in ids)
    assert b"".join(tokens.pieces[index] for index in ids) == "".join(parts).encode()
    assert tokens.bytes_of(ids) == len("".join(parts).encode())


def test_a_tokenizer_with_masks_keeps_the_fast_way() -> None:
    assert trained("bpe", 3).is_fast


def test_masks_that_do_not_begin_behind_the_seven_are_none() -> None:
    plain = train_bpe(TEXTS, 320, 2)
    plain.add_special_tokens(["<|mask|>"])
    assert TextTokenizer(plain).num_masks == 0


def documents(folder):
    outcome = Outcome()
    for number, text in enumerate(TEXTS):
        url = f"http://x.test/{number}"
        outcome.kept.append(Document(make_doc_id("x", url, text.encode()), "x", url, "en", "", text))
    write_summary(folder, [write_shard(folder, 0, outcome)])
    return folder


def test_the_step_makes_them_and_transformers_knows_the_mask(tmp_path) -> None:
    context = local_context("tokenizer", tmp_path / "run")
    tokenizer(context, TokenizerConfig(vocab_size=324, masks=2), documents(tmp_path / "documents"))
    theirs = AutoTokenizer.from_pretrained(context.output)
    assert (theirs.mask_token, theirs.mask_token_id) == ("<|mask|>", MASK)
    assert theirs.convert_tokens_to_ids("<|mask_1|>") == MASK + 1
    assert theirs.decode(theirs("the cat").input_ids, skip_special_tokens=True) == "the cat"


def test_without_masks_the_folder_says_nothing_of_them(tmp_path) -> None:
    context = local_context("tokenizer", tmp_path / "run")
    tokenizer(context, TokenizerConfig(vocab_size=322), documents(tmp_path / "documents"))
    assert "mask" not in (context.output / "tokenizer_config.json").read_text()
    added = json.loads((context.output / "tokenizer.json").read_text())["added_tokens"]
    assert [token["content"] for token in added] == list(SPECIAL_TOKENS)


def test_a_given_tokenizer_without_the_masks_asked_for_is_refused(tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    train_bpe(TEXTS, 320, 2).save(str(path))
    given_one = TokenizerConfig(path=str(path), masks=1)
    with pytest.raises(StepError, match="has 0 masks, 1 were asked for"):
        tokenizer(local_context("tokenizer", tmp_path / "run"), given_one, documents(tmp_path / "documents"))


def test_a_vocabulary_needs_room_for_its_masks() -> None:
    with pytest.raises(ConfigError, match="must be at least 420"):
        TokenizerConfig(vocab_size=330, masks=100)
    with pytest.raises(ConfigError, match="masks"):
        TokenizerConfig(masks=-1)


def test_the_names_are_in_order() -> None:
    assert special_tokens(3) == (*SPECIAL_TOKENS, *NAMES)
