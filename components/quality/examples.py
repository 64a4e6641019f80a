"""What the classifier learns from: examples of files, or of the corpus by what the rules say of its documents.

Without files, good documents are those of the named sources, or those that pass every rule by a margin; bad ones are
those that a rule drops, and good ones with their words in disorder. With good texts given, bad ones are any documents
of the corpus, and the classifier learns what sets the given apart (as in GPT-3 and DCLM). Of more than are wanted,
those with the smallest hashes are taken: a sample that no order of files or shards changes.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from components.clean.config import CleanConfig
from components.clean.decide import decide
from components.clean.profiles import RuleBook
from components.errors import StepError
from components.quality.config import QualityConfig
from components.score.names import STATISTICS
from components.score.normalise import normalise

GOOD, BAD = "good", "bad"
_MAX_CHARS = 20_000


def labels_of(
    documents: pa.RecordBatch, scores: pa.RecordBatch, book: RuleBook, config: QualityConfig, only_bad: bool
) -> list[str]:
    """What each document of the corpus is an example of: `GOOD`, `BAD` or "".

    Args:
        documents: The short columns of some documents.
        scores: Their statistics.
        book: The rules.
        config: Languages, sources and margin.
        only_bad: Good texts are given, so all documents are examples of the others.
    """
    judged = CleanConfig(languages=(), keep_opted_out=True)
    langs, sources = documents.column("lang").to_pylist(), documents.column("source").to_pylist()
    known = [not config.languages or lang in config.languages for lang in langs]
    if only_bad:
        return [BAD if learn else "" for learn in known]
    passed = decide(scores, documents, book, judged).kept
    safe = decide(scores, documents, with_margin(book, config.margin), judged).kept
    named = [source in config.good_sources for source in sources] if config.good_sources else safe.tolist()
    return [
        ("" if not learn else BAD if not ok else GOOD if good else "")
        for learn, ok, good in zip(known, passed.tolist(), named, strict=True)
    ]


def with_margin(book: RuleBook, margin: float) -> RuleBook:
    """Rules whose thresholds lie further inside, by a factor; those over quality itself are left out."""
    profiles = {
        name: tuple(
            replace(rule, threshold=rule.threshold / margin if rule.upper else _raised(rule.threshold, margin))
            for rule in rules
            if rule.statistic in STATISTICS
        )
        for name, rules in book.profiles.items()
    }
    return replace(book, profiles=profiles)


def _raised(bound: float, margin: float) -> float:
    """A higher lower bound; that of a share stays a share that can be met, however high it was."""
    return bound * margin if bound >= 1 else min(bound * margin, 1 - (1 - bound) / margin)


def read_examples(path: Path, most: int) -> list[tuple[bytes, str]]:
    """Texts of a file or of all files of a folder: JSONL with a field "text", or plain text with empty lines between.

    Args:
        path: The file or folder.
        most: How many are kept, those with the smallest hashes.

    Returns:
        Hash and text of each, sorted.

    Raises:
        StepError: If there is none, or a file cannot be read, with the line.
    """
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    chosen = dict(heapq.nsmallest(most, (_keyed(text) for file in files for text in _texts(file))))
    if not chosen:
        raise StepError("There is no text among the examples.", str(path), 'give JSONL with a field "text"')
    return sorted(chosen.items())


def _keyed(text: str) -> tuple[bytes, str]:
    text = normalise(text[:_MAX_CHARS])
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(), text


def _texts(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            if file.suffix in (".jsonl", ".json", ".ndjson"):
                yield from _rows(lines, file)
            else:
                yield from _paragraphs(lines)
    except UnicodeDecodeError:
        raise StepError(f"The examples in {file.name} are no UTF-8 text.", str(file), "save them as UTF-8") from None


def _rows(lines: Iterable[str], file: Path) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError, RecursionError):
                text = None
            if not isinstance(text, str):
                where = f"{file}, line {number}"
                raise StepError(f'Line {number} of {file.name} has no "text".', where, 'write {"text": "..."} on it')
            yield text


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    for filled, part in groupby(lines, key=lambda line: bool(line.strip())):
        if filled:
            yield "".join(part)
