"""From pages or files to training rows: the data path, as a recipe of its own and as the first half of every other.

Where text comes from is the source's business (`source=sample|crawl|warc|files`); behind it all go the same way. Scores
and sketches are made on the text before anything is thrown away, so that moving a threshold of `clean` neither measures
nor hashes a text again. Files that a step reads enter its key by their content, never by their path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from components import opt_outs
from components.card.config import CardConfig, settings_told
from components.card.step import card
from components.clean.profiles import builtin_rules, load_rules, with_thresholds
from components.clean.step import clean
from components.crawl.step import crawl
from components.decontaminate.step import decontaminate
from components.dedup.step import dedup
from components.extract.step import extract
from components.ingest.sources import fingerprint
from components.ingest.step import ingest_files, ingest_warc
from components.pack.step import pack
from components.quality.step import quality
from components.sample.step import site
from components.score.step import score
from components.shards.step import tokens
from components.sketch.step import sketch
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
        rows: The plan of training rows.
    """

    documents: Artifact
    vocabulary: Artifact
    tokens: Artifact
    rows: Artifact


@dataclass(frozen=True)
class _Text:
    """Documents as the source gives them, and what they were made of, for the card."""

    documents: Artifact
    crawled: Artifact | None = None
    ingested: Artifact | None = None
    extracted: Artifact | None = None


def data(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe `data`; nothing runs here."""
    return corpus(run, settings).rows


def corpus(run: Recipe, settings: Settings, dialogues: Artifact | None = None, pairs: Artifact | None = None) -> Corpus:
    """Declares the steps from the source to the training rows, and the data card.

    Args:
        run: Collects the steps.
        settings: Of the run.
        dialogues: Artifact of `instructions`: no document may contain those it holds out.
        pairs: Artifact of `preferences`: the same.
    """
    files = settings.source
    text = _source(run, settings)
    scored = run.step(score, settings.score, documents=text.documents, toxic=_file(run, files.toxic, "toxic"))
    sketched = run.step(sketch, settings.sketch, documents=scored)
    kept = _clean(run, settings, scored)
    earlier = _file(run, files.previous_dedup, "previous")
    final = unique = run.step(dedup, settings.dedup, documents=kept, sketches=sketched, previous=earlier)
    benchmarks = _file(run, files.benchmarks, "benchmarks")
    held_out = [dialogues, pairs, benchmarks]
    checked = None
    if any(held_out):
        final = checked = run.step(
            decontaminate,
            settings.decontaminate,
            documents=unique,
            instructions=dialogues,
            preferences=pairs,
            benchmarks=benchmarks,
        )
    vocabulary = vocabulary_of(run, settings, final)
    ids = run.step(tokens, settings.tokens, documents=final, tokenizer=vocabulary)
    rows = run.step(pack, settings.pack, tokens=ids)
    run.step(
        card,
        _card_config(settings),
        crawl=text.crawled,
        ingest=text.ingested,
        extract=text.extracted,
        score=scored,
        clean=kept,
        dedup=unique,
        decontaminate=checked,
        tokenizer=vocabulary,
        tokens=ids,
        pack=rows,
    )
    return Corpus(final, vocabulary, ids, rows)


def _source(run: Recipe, settings: Settings) -> _Text:
    kind, paths = settings.source.kind, settings.source.paths
    if kind == "files":
        files = replace(settings.ingest_files, paths=paths, fingerprint=fingerprint(paths, "files"))
        rows = run.step(ingest_files, files)
        return _Text(rows, ingested=rows)
    if kind == "warc":
        archives = replace(settings.ingest_warc, paths=paths, fingerprint=fingerprint(paths, "warc"))
        pages = run.step(ingest_warc, archives)
        text = run.step(extract, settings.extract, pages=pages)
        return _Text(text, ingested=pages, extracted=text)
    pages = run.step(
        crawl,
        replace(settings.crawl, opt_out_file=str(opt_out_list(settings) or "")),
        detached=True,
        site=run.step(site, settings.site) if kind == "sample" else None,
        previous=_file(run, settings.source.previous_crawl, "previous"),
    )
    text = run.step(extract, settings.extract, pages=pages)
    return _Text(text, crawled=pages, extracted=text)


def opt_out_list(settings: Settings) -> Path | None:
    """The list of hosts and URLs that are left alone: the one named, else the workspace's, if there is one."""
    if settings.source.opt_out:
        return Path(settings.source.opt_out)
    kept = settings.folder / opt_outs.FILE
    return kept if kept.is_file() else None


def _clean(run: Recipe, settings: Settings, scored: Artifact) -> Artifact:
    files = settings.source
    path = Path(files.rules or builtin_rules())
    with_thresholds(load_rules(path), settings.clean)  # refuses a rule that does not exist before anything runs
    rules = run.file(path, "rules")
    judged = None
    if files.quality:
        judged = run.step(
            quality,
            settings.quality,
            documents=scored,
            rules=rules,
            positives=_file(run, files.positives, "positives"),
            negatives=_file(run, files.negatives, "negatives"),
        )
    return run.step(
        clean,
        settings.clean,
        documents=scored,
        rules=rules,
        quality=judged,
        opt_out=_file(run, opt_out_list(settings), "opt_out"),
    )


def vocabulary_of(run: Recipe, settings: Settings, documents: Artifact) -> Artifact:
    """Declares the tokenizer: trained on some documents, or the one given."""
    if settings.tokenizer.path is None:
        return run.step(tokenizer, settings.tokenizer, documents=documents)
    given = run.file(settings.tokenizer.path, "tokenizer")  # by content, not by path
    return run.step(tokenizer, replace(settings.tokenizer, path=None), documents=documents, given=given)


def _card_config(settings: Settings) -> CardConfig:
    """The card's settings, with those of the other steps that differ from their defaults to be shown on it."""
    told = ("crawl", "extract", "score", "clean", "sketch", "dedup", "decontaminate", "tokenizer", "tokens", "pack")
    shown = settings_told({name: getattr(settings, name) for name in told})
    return replace(settings.card, settings={**shown, **settings.card.settings})


def _file(run: Recipe, path: str | Path | None, what: str) -> Artifact | None:
    return None if path is None else run.file(path, what)
