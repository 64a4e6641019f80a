"""From pages or files to training rows: the data path, as a recipe of its own and as the first half of every other.

Where text comes from is the source's business (`source=sample|crawl|warc|files`); behind it all go the same way. Scores
and sketches are made on the text before anything is thrown away, so that moving a threshold of `clean` neither measures
nor hashes a text again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from components.clean.step import clean
from components.crawl.step import crawl
from components.dedup.step import dedup
from components.extract.step import extract
from components.sample.step import site
from components.shards.step import tokens
from components.tokenizer.step import tokenizer
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe


@dataclass(frozen=True)
class Corpus:
    """What the data path makes.

    Attributes:
        documents: The documents that training sees.
        vocabulary: The tokenizer.
        tokens: The documents as ids, split into training, validation and test.
    """

    documents: Artifact
    vocabulary: Artifact
    tokens: Artifact


def data(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe `data`; nothing runs here."""
    return corpus(run, settings).tokens


def corpus(run: Recipe, settings: Settings) -> Corpus:
    """Declares the steps from the source to the token shards."""
    text = _documents(run, settings)
    kept = run.step(clean, settings.clean, documents=text)
    unique = run.step(dedup, settings.dedup, documents=kept)
    vocabulary = _vocabulary(run, settings, unique)
    return Corpus(unique, vocabulary, run.step(tokens, settings.tokens, documents=unique, tokenizer=vocabulary))


def _documents(run: Recipe, settings: Settings) -> Artifact:
    kind = settings.source.kind
    if kind == "sample":
        pages = run.step(crawl, settings.crawl, detached=True, site=run.step(site, settings.site))
    else:
        pages = run.step(crawl, settings.crawl, detached=True)
    return run.step(extract, settings.extract, pages=pages)


def _vocabulary(run: Recipe, settings: Settings, documents: Artifact) -> Artifact:
    if settings.tokenizer.path is None:
        return run.step(tokenizer, settings.tokenizer, documents=documents)
    given = run.file(settings.tokenizer.path, "tokenizer")  # by content, not by path
    return run.step(tokenizer, replace(settings.tokenizer, path=None), documents=documents, given=given)
