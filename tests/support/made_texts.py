"""Made-up texts in English and Chinese that are as unlike as real ones, edits of them, and documents made of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from components.documents import Document, Outcome, make_doc_id, shard_of, write_shard, write_summary

_HANZI = "".join(bytes((lead, trail)).decode("gb2312") for lead in range(0xB0, 0xD0) for trail in range(0xA1, 0xFF))
_SYLLABLES = [a + b for a in (*"bcdfghlmnprstw", "st", "tr") for b in (*"aeiou", "ea", "ou")]


def _english_words() -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(3000)]


_WORDS = _english_words()
_COMMON = [1 / (rank + 3) for rank in range(3000)]  # words and hanzi are used as unevenly as in real text


def make_text(lang: str, seed: int, chars: int) -> str:
    """A text of a language by number, with so many characters."""
    draw = random.Random(f"{lang}/{seed}")
    if lang == "zh":
        return "".join(draw.choices(_HANZI[: len(_COMMON)], _COMMON[: len(_HANZI)], k=chars))
    words: list[str] = []
    while sum(map(len, words)) + len(words) < chars:
        words += draw.choices(_WORDS, _COMMON, k=20)
    return " ".join(words)[:chars]


def edited(text: str, rate: float, seed: int) -> str:
    """A text with a share of its characters changed, dropped or doubled by another one, at random places."""
    draw = random.Random(seed)
    letters = _HANZI if text[0] > "\u2fff" else "abcdefghijklmnopqrstuvwxyz"
    out: list[str] = []
    for char in text:
        kind = draw.randrange(3) if draw.random() < rate else 3
        out += {0: [draw.choice(letters)], 1: [], 2: [char, draw.choice(letters)], 3: [char]}[kind]
    return "".join(out)


def make_document(url: str, text: str, lang: str = "en") -> Document:
    """A document by URL, text and language."""
    return Document(make_doc_id("web", url, text.encode()), "web", url, lang, url, text)


def write_artifact(folder: Path, documents: Sequence[Document], num_shards: int = 3) -> Path:
    """Writes documents as an artifact of some shards."""
    parts = []
    for index in range(num_shards):
        mine = [one for one in documents if shard_of(one.doc_id, num_shards) == index]
        parts.append(write_shard(folder, index, Outcome(mine)))
    write_summary(folder, parts)
    return folder
