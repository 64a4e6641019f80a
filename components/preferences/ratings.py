"""Pairs out of human ratings: what people said about a topic in conversations rated high and in ones rated low.

People rated whole conversations, not turns, so a pair takes the conversation's topic question as its prompt and two
contributions to it, one from a high-rated and one from a low-rated conversation, of about the same length. That is a
real but weak signal: a linear model over n-grams tells the better side of pairs from unseen conversations in 57 of 100
cases (standard error 1.4). Replies to the very same message ("hello", "how are you") were tried and left out: 98 pairs,
and no signal (50 of 100). Keeping only turns that share a word with the topic left a fifth of the pairs and the same
signal. Length is matched because high-rated conversations are long, and length is easy to learn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from components.instructions.windows import good_reply
from components.posttrain.dialogues import Preference, hash_order, user_says
from components.preferences.config import HIGHEST_RATING, LOWEST_RATING, PreferencesConfig
from components.sample.texts import UNTITLED, Conversation

_FIRST_TURNS = 20  # later ones have wandered off the topic
_LEAST_CHARS, _LEAST_WORDS = 25, 4


@dataclass(frozen=True)
class Contribution:
    """One turn of a rated conversation."""

    id: str
    topic: str
    text: str
    rating: float


def rated_pairs(conversations: list[Conversation], config: PreferencesConfig) -> list[Preference]:
    """Pairs of contributions to the same topic; each contribution is used once."""
    topics: dict[str, tuple[list[Contribution], list[Contribution]]] = defaultdict(lambda: ([], []))
    for conversation in conversations:
        if conversation.rating is None or config.low_rating <= conversation.rating < config.high_rating:
            continue
        side = 0 if conversation.rating >= config.high_rating else 1
        topics[conversation.topic][side].extend(_contributions(conversation, conversation.rating, config))
    topics.pop(UNTITLED, None)
    return [pair for high, low in topics.values() for pair in _matched(high, low)]


def _contributions(conversation: Conversation, rating: float, config: PreferencesConfig) -> Iterator[Contribution]:
    for number, text in enumerate(conversation.turns[:_FIRST_TURNS]):
        if len(text) >= _LEAST_CHARS and good_reply(text, config.max_reply_chars, _LEAST_WORDS):
            yield Contribution(f"{conversation.id}.{number}", conversation.topic, text, rating)


def _matched(high: list[Contribution], low: list[Contribution]) -> Iterator[Preference]:
    """To each low-rated contribution the free high-rated one nearest in length, at most a quarter longer or shorter."""
    free = sorted(high, key=lambda side: hash_order(side.id))
    for rejected in sorted(low, key=lambda side: hash_order(side.id)):
        size = len(rejected.text)
        near = [side for side in free if abs(len(side.text) - size) <= size / 4 and side.text != rejected.text]
        if near:
            chosen = min(near, key=lambda side: abs(len(side.text) - size))
            free.remove(chosen)
            yield _pair(chosen, rejected)


def _pair(chosen: Contribution, rejected: Contribution) -> Preference:
    return Preference(
        id=f"{chosen.id}+{rejected.id}",
        lang="en",
        source="chitchat",
        prompt=user_says(chosen.topic),
        chosen=chosen.text,
        rejected=rejected.text,
        margin=(chosen.rating - rejected.rating) / (HIGHEST_RATING - LOWEST_RATING),
    )
