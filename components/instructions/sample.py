"""Examples of the sample source: chat of people, questions with answers, and reviews written on request."""

from __future__ import annotations

from collections.abc import Iterator

from components.instructions.config import InstructionsConfig
from components.instructions.windows import windows
from components.posttrain.dialogues import Instruction, hash_order
from components.sample.review_requests import request, topics_of, usable_review
from components.sample.texts import Conversation, Review, conversations, held_out, reviews

_MIN_WORDS = {"chitchat": 3, "chatterbot": 1}  # "Almonds" answers a question; in small talk one word ends it


def sample_instructions(config: InstructionsConfig) -> tuple[list[Instruction], list[Instruction]]:
    """All examples: those to train on, at most `max_per_source` of each source, and the held-out ones."""
    rows = [*_from_conversations(config), *_from_reviews(config)]
    train = [row for row in rows if not held_out(row.id)]
    return _capped(train, config.max_per_source), [row for row in rows if held_out(row.id)]


def _from_conversations(config: InstructionsConfig) -> Iterator[Instruction]:
    for conversation in conversations():
        if conversation.rating is None or conversation.rating >= config.min_rating:
            yield from _examples(conversation, config)


def _examples(conversation: Conversation, config: InstructionsConfig) -> Iterator[Instruction]:
    found = windows(
        conversation,
        config.max_turns,
        config.max_turn_chars,
        config.windows_per_conversation,
        _MIN_WORDS[conversation.source],
    )
    for number, messages in enumerate(found):
        yield Instruction(f"{conversation.id}.{number}", conversation.lang, conversation.source, messages)


def _from_reviews(config: InstructionsConfig) -> Iterator[Instruction]:
    for review in reviews():
        if usable_review(review.text, config.max_review_chars):
            yield Instruction(review.id, "zh", "reviews", _written_on_request(review))


def _written_on_request(review: Review) -> tuple[dict[str, str], ...]:
    asked = request(topics_of(review.text)[0], len(review.text), review.id, held_out(review.id))
    return ({"role": "user", "content": asked}, {"role": "assistant", "content": review.text})


def _capped(rows: list[Instruction], most: int) -> list[Instruction]:
    """The first `most` rows of each source in the order of their hash."""
    kept: dict[str, list[Instruction]] = {}
    for row in sorted(rows, key=lambda row: hash_order(row.id)):
        same = kept.setdefault(row.source, [])
        if len(same) < most:
            same.append(row)
    return [row for same in kept.values() for row in same]
