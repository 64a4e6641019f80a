"""Conversations of people to examples for an assistant: short windows whose replies are worth imitating.

Chat between strangers is full of "lol", links and shouting; a small model imitates what is frequent, so a window ends
before the first turn that is not worth it. Windows follow one another without overlap: every reply is learned once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

from components.posttrain.dialogues import Messages
from components.sample.texts import Conversation

_LINK = re.compile(r"https?:|www\.|\w\.(?:com|org|net|be)\b", re.IGNORECASE)
_LAUGH = re.compile(r"\b(?:a*(?:ha)+h?|(?:he){2,}|lo+l|lmf?ao|rofl|x+d+)\b|[:;]-?[)(dp]+", re.IGNORECASE)
_REPEATED = re.compile(r"(.)\1{4,}|(\S{1,4}\s?)\2{4,}")
_SHOUT_LETTERS = 6


def windows(conversation: Conversation, max_turns: int, max_chars: int, count: int, min_words: int) -> list[Messages]:
    """Cuts a conversation into examples.

    Args:
        conversation: Speakers alternate; in each window the first one is the user.
        max_turns: Longest window. Each is of 2, 4, ... turns, by the hash of conversation and place.
        max_chars: Longest turn.
        count: Most windows.
        min_words: Least words of a reply of the assistant.

    Returns:
        Windows of whole exchanges, user first and assistant last.
    """
    found: list[Messages] = []
    start = 0
    while len(found) < count and start + 1 < len(conversation.turns):
        size = _size(f"{conversation.id}#{start}", max_turns)
        window = _exchanges(conversation.turns[start : start + size], max_chars, min_words)
        if window:
            found.append(window)
        start += len(window) or 2
    return found


def good_turn(text: str, max_chars: int) -> bool:
    """Whether a turn may stand in an example: not empty, not long, no link, no shouting, no key held down."""
    if not 2 <= len(text) <= max_chars or _LINK.search(text) or _REPEATED.search(text):
        return False
    letters = [letter for letter in text if letter.isalpha()]
    shouted = len(letters) >= _SHOUT_LETTERS and sum(map(str.isupper, letters)) > 0.7 * len(letters)
    return bool(letters) and not shouted


def good_reply(text: str, max_chars: int, min_words: int) -> bool:
    """Whether a turn is worth imitating: good, and with enough words besides laughter."""
    return good_turn(text, max_chars) and num_words(_LAUGH.sub(" ", text)) >= min_words


def num_words(text: str) -> int:
    """Words of a text: runs of letters and digits, each Chinese character counting as one."""
    return len(re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text))


def _exchanges(turns: tuple[str, ...], max_chars: int, min_words: int) -> Messages:
    """The leading exchanges (user, assistant) in which both turns are good."""
    return tuple(_leading(turns, max_chars, min_words))


def _leading(turns: tuple[str, ...], max_chars: int, min_words: int) -> Iterator[dict[str, str]]:
    for user, assistant in zip(turns[::2], turns[1::2], strict=False):
        if not (good_turn(user, max_chars) and good_reply(assistant, max_chars, min_words)):
            return
        yield {"role": "user", "content": user}
        yield {"role": "assistant", "content": assistant}


def _size(key: str, max_turns: int) -> int:
    choices = max_turns // 2
    return 2 * (1 + int.from_bytes(sha256(key.encode()).digest()[:8], "big") % choices)
