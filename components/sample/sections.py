"""The sections of the sample website: which texts stand on which page.

Held-out conversations and reviews are left out before anything else, so that no later choice can let one slip in. The
rest is put in an order drawn from the seed, and the configured number is taken from its front.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from html import escape
from typing import TypeVar

from components.sample.config import SampleConfig
from components.sample.markup import SECTIONS, Sheet
from components.sample.texts import Article, Conversation, Review, articles, conversations, held_out, reviews

T = TypeVar("T")

_ITEMS_PER_DIGEST = 8


def content_sheets(config: SampleConfig, seed: int) -> list[Sheet]:
    """All pages with text worth keeping, section by section.

    Args:
        config: Sizes.
        seed: Seed of the order in which texts are taken.
    """
    draw = random.Random(seed)
    shown = [one for one in conversations() if not held_out(one.id)]
    rated = _shuffled(draw, [one for one in shown if one.source == "chitchat"])[: config.conversations]
    asked = [one for one in shown if one.source == "chatterbot"]
    told = _shuffled(draw, articles())
    opinions = _shuffled(draw, [one for one in reviews() if not held_out(one.id)])[: config.reviews]
    digested = told[config.articles : config.articles + config.digests * _ITEMS_PER_DIGEST]
    return [
        *_talk(rated, config.conversations_per_page),
        *_questions([one for one in asked if one.lang == "en"][: config.questions], "help", config.questions_per_page),
        *(_article(number, one) for number, one in enumerate(told[: config.articles], start=1)),
        *(_digest(number, some) for number, some in enumerate(chunks(digested, _ITEMS_PER_DIGEST), start=1)),
        *(_reviews(number, some) for number, some in enumerate(chunks(opinions, config.reviews_per_page), start=1)),
        *_questions([one for one in asked if one.lang == "zh"], "chat", config.questions_per_page),
    ]


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Runs of `size` items, the last one shorter where it must be."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def paragraphs(texts: Sequence[str]) -> str:
    """One HTML paragraph for each text; line breaks inside a text are kept."""
    return "\n".join(f"<p>{escape(text, quote=False).replace(chr(10), '<br>')}</p>" for text in texts)


def _talk(some: Sequence[Conversation], per_page: int) -> list[Sheet]:
    sheets = []
    for number, group in enumerate(chunks(some, per_page), start=1):
        body = "\n".join(f"<h2>{escape(one.topic)}</h2>\n{paragraphs(one.turns)}" for one in group)
        size = _size(*(text for one in group for text in (one.topic, *one.turns)))
        sheets.append(_sheet("talk", number, f"{group[0].topic} ({number})", body, size))
    return sheets


def _questions(some: Sequence[Conversation], section: str, per_page: int) -> list[Sheet]:
    groups: dict[str, list[Conversation]] = {}
    for one in some:
        groups.setdefault(one.topic, []).append(one)
    sheets: list[Sheet] = []
    for topic, group in groups.items():
        for part in chunks(group, per_page):
            body = "\n".join(f"<h3>{escape(one.turns[0])}</h3>\n{paragraphs(one.turns[1:])}" for one in part)
            size = _size(*(text for one in part for text in one.turns))
            sheets.append(_sheet(section, len(sheets) + 1, f"{topic} ({len(sheets) + 1})", body, size))
    return sheets


def _article(number: int, one: Article) -> Sheet:
    return _sheet("news", number, one.title, paragraphs(one.text.split("\n")), _size(one.title, one.text))


def _digest(number: int, some: Sequence[Article]) -> Sheet:
    body = "\n".join(f"<h2>{escape(one.title)}</h2>\n{paragraphs(one.text.split(chr(10)))}" for one in some)
    size = _size(*(text for one in some for text in (one.title, one.text)))
    return _sheet("digest", number, f"要闻汇编第{number}期", body, size)


def _reviews(number: int, some: Sequence[Review]) -> Sheet:
    body = paragraphs([one.text for one in some])
    return _sheet("reviews", number, f"顾客点评第{number}页", body, _size(*(one.text for one in some)))


def _sheet(section: str, number: int, title: str, body: str, text_bytes: int) -> Sheet:
    folder, _, lang = SECTIONS[section]
    return Sheet(f"{folder}{number:04d}.html", title, lang, section, body, text_bytes)


def _shuffled(draw: random.Random, items: Sequence[T]) -> list[T]:
    order = list(items)
    draw.shuffle(order)
    return order


def _size(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)
