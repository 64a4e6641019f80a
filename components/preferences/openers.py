"""Prompts for PPO: what users say first. Nothing here needs an answer, so there are more of them than of pairs.

Chinese: all requests for a review (those of the held-out part held out). English: the topic questions of the
conversations, then what people opened with, the most frequent first, as users will type "hello" more often than
anything else. Held-out openers are those that nobody used in a training conversation.
"""

from __future__ import annotations

import re
from collections import Counter

from components.instructions.windows import good_turn
from components.posttrain.dialogues import Prompt, user_says
from components.preferences.config import PreferencesConfig
from components.sample.review_requests import requests
from components.sample.texts import UNTITLED, Conversation, held_out

_MAX_CHARS = 80


def sample_prompts(conversations: list[Conversation], config: PreferencesConfig) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and held-out ones."""
    chat = [conversation for conversation in conversations if conversation.source == "chitchat"]
    known = _openers([conversation for conversation in chat if not held_out(conversation.id)])
    unseen = _openers([conversation for conversation in chat if held_out(conversation.id)])
    topics = sorted({conversation.topic for conversation in chat} - {UNTITLED})
    english = [*topics, *known.values()][: config.num_openers]
    english_held_out = [text for key, text in unseen.items() if key not in known][: config.num_openers // 3]
    return (
        [*_prompts(english, "en", "openers"), *_prompts(requests(held_out=False), "zh", "reviews")],
        [*_prompts(english_held_out, "en", "openers"), *_prompts(requests(held_out=True), "zh", "reviews")],
    )


def _openers(conversations: list[Conversation]) -> dict[str, str]:
    """First turns by their letters alone, the most frequent first, each in its most frequent spelling."""
    spellings: dict[str, Counter[str]] = {}
    for conversation in conversations:
        text = conversation.turns[0]
        if good_turn(text, _MAX_CHARS):
            spellings.setdefault(_letters(text), Counter())[text] += 1
    ordered = sorted(spellings.items(), key=lambda item: (-item[1].total(), item[0]))
    return {key: min(texts, key=lambda text: (-texts[text], text)) for key, texts in ordered}


def _letters(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _prompts(texts: list[str], lang: str, source: str) -> list[Prompt]:
    return [Prompt(f"{source}-{text}", lang, source, user_says(text)) for text in texts]
