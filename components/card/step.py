"""The last step of the data path: a card that says what the corpus is, as JSON for programs and Markdown for people.

    card.json      every figure
    README.md      the same for reading, with the front matter that Hugging Face reads from a data set's page

The figures of the final documents are counted from their rows, not copied from an earlier summary, so that the card is
a second witness: where rows and summaries, or one step and the next, do not agree, the card says so under `faults` and
the metric `faults` is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.card.config import CardConfig
from components.context import Context, Metrics
from components.errors import StepError
from components.publish import publish_bytes, publish_json

if TYPE_CHECKING:
    from components.card.census import Census

VERSION = 1


def card(
    ctx: Context,
    config: CardConfig,
    crawl: Path | None = None,
    ingest: Path | None = None,
    extract: Path | None = None,
    score: Path | None = None,
    clean: Path | None = None,
    dedup: Path | None = None,
    decontaminate: Path | None = None,
    tokenizer: Path | None = None,
    tokens: Path | None = None,
    pack: Path | None = None,
) -> Metrics:
    """Writes the card of a corpus.

    Args:
        ctx: The step's context.
        config: What the card says beyond what it counts.
        crawl: Artifacts of the data path, as far as the recipe has them; the last of those that hold documents is
            the corpus.
        ingest: See `crawl`.
        extract: See `crawl`.
        score: See `crawl`.
        clean: See `crawl`.
        dedup: See `crawl`.
        decontaminate: See `crawl`.
        tokenizer: Tokenizer artifact.
        tokens: Tokens artifact.
        pack: Artifact of the packing plan.

    Returns:
        documents, chars, languages, hosts (of the corpus), read (documents the first step of documents read), faults
        (counts that do not add up), tokens and pii (masked), where they are known.

    Raises:
        StepError: If no artifact with documents is given.
    """
    from components.card.describe import Sources, describe
    from components.card.markdown import to_markdown

    path = {"crawl": crawl, "ingest": ingest, "extract": extract, "score": score, "clean": clean, "dedup": dedup}
    path |= {"decontaminate": decontaminate}
    given = {name: folder for name, folder in path.items() if folder is not None}
    census = _census(ctx, config, _corpus(given))
    described = describe(config, census, Sources(given, tokenizer, tokens, pack))
    publish_json(ctx.output / "card.json", described)
    publish_bytes(ctx.output / "README.md", to_markdown(described).encode())
    return _metrics(described)


def _corpus(given: Mapping[str, Path]) -> Path:
    """The documents the card is about: those of the last step that has any."""
    holding = [folder for folder in given.values() if (folder / "documents").is_dir()]
    if not holding:
        raise StepError("card was given no documents.", "card", "pass clean=, dedup= or another artifact of documents")
    return holding[-1]


def _census(ctx: Context, config: CardConfig, corpus: Path) -> Census:
    from components.card.census import count_shard, merged
    from components.documents import shard_paths
    from components.shardwise import map_in_waves

    shards = shard_paths(corpus)
    parts = map_in_waves(ctx, count_shard, shards, config.shards_at_once, "shards")
    return merged([path.name for path in shards], parts)


def _metrics(described: Mapping[str, object]) -> Metrics:
    totals = described["totals"]
    if not isinstance(totals, Mapping):
        raise ValueError("the card has no totals")
    return {str(name): float(value) for name, value in totals.items()}
