"""Windows of conversations: whole exchanges, good replies only, no turn twice."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.instructions.windows import good_reply, good_turn, num_words, windows
from components.sample.texts import Conversation

turns_strategy = st.lists(
    st.sampled_from(
        ["What do you think of rivers?", "I like them a lot", "lol", "see http://a.b", "WHY ARE YOU SHOUTING", ""]
    )
    | st.integers(0, 99).map(lambda number: f"This is sentence number {number}"),
    min_size=2,
    max_size=20,
)


def conversation(turns: list[str], identity: str = "chitchat-1") -> Conversation:
    return Conversation(identity, "en", "chitchat", "rivers", tuple(turns), 8.0)


@example(turns=["This is a good sentence"] * 12, max_turns=6, count=5, identity="x")
@given(turns=turns_strategy, max_turns=st.integers(2, 9), count=st.integers(1, 5), identity=st.text(max_size=4))
def test_windows_are_disjoint_runs_of_turns_user_first_assistant_last(
    turns: list[str], max_turns: int, count: int, identity: str
):
    numbered = [f"{text} {place}" if text not in ("", "lol") else text for place, text in enumerate(turns)]
    found = windows(conversation(numbered, identity), max_turns, 200, count, 3)
    assert len(found) <= count
    taken = []
    for window in found:
        assert [message["role"] for message in window] == ["user", "assistant"] * (len(window) // 2)
        assert 2 <= len(window) <= max_turns
        places = [numbered.index(message["content"]) for message in window]
        assert places == list(range(places[0], places[0] + len(window)))
        taken += places
    assert len(taken) == len(set(taken))


@given(turns=turns_strategy)
def test_every_turn_of_a_window_is_good(turns: list[str]):
    for window in windows(conversation(turns), 6, 200, 9, 3):
        assert all(good_turn(message["content"], 200) for message in window)
        assert all(good_reply(message["content"], 200, 3) for message in window[1::2])


def test_a_window_ends_before_the_first_bad_reply_and_the_next_begins_after_it():
    turns = ["one is here", "two is here", "three is here", "lol", "five is here", "six is here"]
    said = [[m["content"] for m in window] for window in windows(conversation(turns), 2, 200, 9, 3)]
    assert said == [turns[:2], turns[4:]]


@pytest.mark.parametrize(
    "text",
    ["", "?", "!!!", "x" * 201, "watch https://youtu.be/abc", "see www.example.org", "it is on example.com", "AAAAAAAH",
     "WHY WOULD YOU", "hmmmmmmmm", "no no no no no no"],
)  # fmt: skip
def test_bad_turns_are_seen(text: str):
    assert not good_turn(text, 200)


@pytest.mark.parametrize("text", ["I saw a UFO.", "OK", "你好吗", "No. Really?", "Mr. Smith is 42."])
def test_good_turns_pass(text: str):
    assert good_turn(text, 200)


@pytest.mark.parametrize("text", ["lol", "hahaha yeah", "Hahahaha nice one", "haha XD :) yes"])
def test_laughter_does_not_count_as_words_of_a_reply(text: str):
    assert not good_reply(text, 200, 3)


def test_words_are_letters_between_spaces_and_single_chinese_characters():
    assert num_words("It's 10 km to 北京!") == 7
