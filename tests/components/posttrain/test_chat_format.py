"""The chat format: exactly the assistant's words and their end are learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.posttrain.chat_format import STOP_IDS, render, render_prompt
from components.tokenizer.load import TextTokenizer
from components.tokenizer.special import ASSISTANT, BOS, END, EOS, SYSTEM, USER
from components.tokenizer.train import train_bpe

messages_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant"]),
            "content": st.one_of(
                st.text(max_size=20), st.sampled_from(["<|end|>", "", "<|assistant|>hi<|end|>", "你好"])
            ),
        }
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(train_bpe(["hello there, how are you today? 你好，今天怎么样？"] * 3, 320, 2))


@given(messages=messages_strategy)
def test_learned_tokens_are_the_assistants_texts_each_with_its_end(
    tokenizer: TextTokenizer, messages: list[dict[str, str]]
):
    ids, mask = render(tokenizer, messages)
    learned = [index for index, flag in zip(ids, mask, strict=True) if flag]
    turns: list[list[int]] = [[]]
    for index in learned:
        turns[-1].append(index)
        if index == END:
            turns.append([])
    assert turns.pop() == []
    expected = [message["content"] for message in messages if message["role"] == "assistant"]
    assert [tokenizer.decode(turn) for turn in turns] == expected
    assert all(turn[-1] == END for turn in turns)


@given(messages=messages_strategy)
def test_special_ids_are_those_of_the_turns_whatever_the_texts_say(
    tokenizer: TextTokenizer, messages: list[dict[str, str]]
):
    ids, _ = render(tokenizer, messages)
    roles = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    expected = [BOS, *(index for message in messages for index in (roles[message["role"]], END))]
    assert [index for index in ids if index < 7] == expected


@given(messages=messages_strategy)
def test_a_prompt_is_the_start_of_the_conversation_that_answers_it(
    tokenizer: TextTokenizer, messages: list[dict[str, str]]
):
    prompt = render_prompt(tokenizer, messages)
    whole, mask = render(tokenizer, [*messages, {"role": "assistant", "content": "fine"}])
    assert whole[: len(prompt)] == prompt
    assert whole[len(prompt) :] == [*tokenizer.encode("fine"), END]
    assert mask[len(prompt) :] == [1] * (len(whole) - len(prompt))
    assert mask[len(prompt) - 1] == 0


def test_an_unknown_role_is_refused(tokenizer: TextTokenizer):
    with pytest.raises(ValueError, match="unknown role 'bot': use system, user, assistant"):
        render(tokenizer, [{"role": "bot", "content": "hi"}])


def test_a_reply_ends_at_the_end_of_a_turn_or_of_a_document():
    assert frozenset({END, EOS}) == STOP_IDS
