"""Where synonyms come from: a file of the user's, or the words of the texts that occur between the same words.

Nothing is downloaded. A file is one group a line, words separated by tabs, commas or spaces, as

    glad happy cheerful
    Aa01A01= 人 士 人物

The second form is that of Chinese thesauri (Cilin): a group whose code ends with "=" are synonyms; "#" (related words)
and "@" (a word alone) are passed over. A file that ends with .json holds an object of lists: {"glad": ["happy"]}.

Without a file, words stand in for each other that keep the same company: each word is a vector of positive pointwise
mutual information with the most frequent words up to two places away, and its neighbours are those of highest cosine.
That finds words of one kind ("good", "bad") as well as of one meaning. Single Chinese characters get no neighbours.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from components.augment.words import is_chinese
from components.errors import StepError

Groups: TypeAlias = dict[str, tuple[str, ...]]

_NUM_WORDS = 4000
_NUM_CONTEXTS = 1000
_REACH = 2
_LEAST_COUNT = 5
_DIGITS = 4  # beyond them a cosine may differ from machine to machine
_SEPARATORS = re.compile(r"[\t,，;；]+\s*|\s+")
_CODE = re.compile(r"[A-Z][a-z]\d{2}[A-Z]\d{2}([=#@])$")


def read_synonyms(path: Path) -> Groups:
    """Reads a file of synonyms: of every word, in lower case, the others of its groups.

    Raises:
        StepError: If it cannot be read, or has no group of two words.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(f"The synonyms cannot be read: {error}.", str(path), "give a text file in UTF-8") from error
    groups = _json_groups(path, text) if path.suffix == ".json" else map(_group_of, text.splitlines())
    found: dict[str, dict[str, None]] = {}
    for group in groups:
        for word in group:
            found.setdefault(word.lower(), {}).update(dict.fromkeys(other for other in group if other != word))
    synonyms = {word: tuple(sorted(others)) for word, others in found.items() if others}
    if not synonyms:
        fix = "write one group a line, such as: glad happy cheerful"
        raise StepError("The file of synonyms has no group of two words.", str(path), fix)
    return synonyms


def frequent_words(texts: Iterable[Sequence[str]], number: int) -> frozenset[str]:
    """The most frequent words, in lower case; of equally frequent ones the first by spelling."""
    counts = Counter(word.lower() for words in texts for word in words)
    return frozenset(word for word, _ in sorted(counts.items(), key=_by_count)[:number])


def neighbours(texts: Sequence[Sequence[str]], number: int, least: float, keep: frozenset[str]) -> Groups:
    """Words that occur between the same words.

    Args:
        texts: Words of each text.
        number: At most so many neighbours of each word.
        least: The cosine they must have at least.
        keep: Words that get none and are none.

    Returns:
        Neighbours by word in lower case, the nearest first.
    """
    counts = Counter(word.lower() for words in texts for word in words)
    order = [word for word, count in sorted(counts.items(), key=_by_count) if count >= _LEAST_COUNT][:_NUM_WORDS]
    if not order:
        return {}
    vectors = _vectors(texts, {word: index for index, word in enumerate(order)})
    able = np.array([word not in keep and not (is_chinese(word) and len(word) == 1) for word in order], dtype=bool)
    found: Groups = {}
    for index, word in enumerate(order):
        if not able[index]:
            continue
        cosines = np.round(vectors @ vectors[index], _DIGITS)
        cosines[index] = -1
        near = np.flatnonzero(able & (cosines >= least))
        best = sorted(near.tolist(), key=lambda other: (-cosines[other], order[other]))[:number]
        if best:
            found[word] = tuple(order[other] for other in best)
    return found


def _vectors(texts: Sequence[Sequence[str]], number_of: dict[str, int]) -> NDArray[np.float64]:
    """Unit vectors of positive pointwise mutual information [words, contexts]."""
    num_contexts = min(_NUM_CONTEXTS, len(number_of))
    table = np.zeros((len(number_of), num_contexts))
    for words in texts:
        ids = np.array([number_of.get(word.lower(), -1) for word in words], dtype=np.int64)
        for step in range(1, _REACH + 1):
            for middle, other in ((ids[:-step], ids[step:]), (ids[step:], ids[:-step])):
                counted = (middle >= 0) & (other >= 0) & (other < num_contexts)
                np.add.at(table, (middle[counted], other[counted]), 1.0)
    total = max(1.0, float(table.sum()))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    information = np.log(np.where(table > 0, table, 1.0)) - np.log(np.where(expected > 0, expected, 1.0))
    positive = np.where(table > 0, np.maximum(information, 0.0), 0.0)
    lengths = np.linalg.norm(positive, axis=1, keepdims=True)
    unit: NDArray[np.float64] = positive / np.where(lengths > 0, lengths, 1.0)
    return unit


def _group_of(line: str) -> list[str]:
    words = [word for word in _SEPARATORS.split(line.strip()) if word]
    if not words or words[0].startswith("#"):
        return []
    code = _CODE.match(words[0])
    if code is None:
        return words
    return words[1:] if code.group(1) == "=" else []


def _json_groups(path: Path, text: str) -> Iterable[list[str]]:
    fix = 'write {"glad": ["happy", "cheerful"]}'
    try:
        table = json.loads(text)
    except ValueError as error:
        raise StepError(f"The file of synonyms is no JSON: {error}.", str(path), fix) from error
    if not isinstance(table, dict):
        raise StepError("The file of synonyms holds no object.", str(path), fix)
    for word, others in table.items():
        if not isinstance(others, list) or not all(isinstance(other, str) and other for other in others):
            raise StepError(f'The synonyms of "{word}" are no list of words.', str(path), fix)
        yield from ([word, other] for other in others)


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
