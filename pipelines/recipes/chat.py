"""From web pages to an aligned model that answers: the main recipe.

Two branches run beside the crawl: the dialogues for SFT and the preference pairs of the reward model are prepared while
pages are fetched. CPUs are what a step itself computes with; a step that launches ranks holds none, its ranks do.
What may take long is detached: on a cluster it goes on when the driver is gone.
"""

from __future__ import annotations

from dataclasses import replace

from components.clean.step import clean
from components.crawl.step import crawl
from components.dedup.step import dedup
from components.evaluate.step import evaluate
from components.extract.step import extract
from components.instructions.step import instructions
from components.ppo.step import ppo
from components.preferences.step import preferences
from components.pretrain.step import pretrain
from components.reward.step import reward
from components.sample.step import site
from components.sft.step import sft
from components.shards.step import tokens
from components.tokenizer.step import tokenizer
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe


def chat(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    source = settings.source
    if source.kind == "sample":
        pages = run.step(crawl, settings.crawl, detached=True, site=run.step(site, settings.site))
        dialogues = run.step(instructions, settings.instructions)
        pairs = run.step(preferences, settings.preferences)
    else:
        pages = run.step(crawl, settings.crawl, detached=True)
        dialogues_file = run.file(source.instructions or "", "instructions")
        pairs_file = run.file(source.preferences or "", "preferences")
        dialogues = run.step(instructions, settings.instructions, file=dialogues_file)
        pairs = run.step(preferences, settings.preferences, file=pairs_file)

    text = run.step(extract, settings.extract, pages=pages)
    kept = run.step(clean, settings.clean, documents=text)
    unique = run.step(dedup, settings.dedup, documents=kept)
    if settings.tokenizer.path is None:
        vocabulary = run.step(tokenizer, settings.tokenizer, documents=unique)
    else:  # by content, not by path
        given = run.file(settings.tokenizer.path, "tokenizer")
        vocabulary = run.step(tokenizer, replace(settings.tokenizer, path=None), documents=unique, given=given)
    rows = run.step(tokens, settings.tokens, documents=unique, tokenizer=vocabulary)

    gpus = settings.cluster.rank_gpus
    base = run.step(
        pretrain,
        settings.pretrain,
        code="warn",
        detached=True,
        ranks=settings.pretrain.training.ranks,
        gpus=gpus,
        tokens=rows,
        tokenizer=vocabulary,
    )
    tuned = run.step(
        sft,
        settings.sft,
        code="warn",
        detached=True,
        ranks=settings.sft.training.ranks,
        gpus=gpus,
        base=base,
        instructions=dialogues,
    )
    judge = run.step(
        reward,
        settings.reward,
        code="warn",
        detached=True,
        ranks=settings.reward.training.ranks,
        gpus=gpus,
        base=tuned,
        preferences=pairs,
    )
    policy = run.step(
        ppo,
        settings.ppo,
        code="warn",
        detached=True,
        ranks=settings.ppo.training.ranks,
        gpus=gpus,
        policy=tuned,
        reward=judge,
        preferences=pairs,
    )
    return run.step(
        evaluate,
        settings.evaluate,
        base=base,
        sft=tuned,
        reward=judge,
        policy=policy,
        tokens=rows,
        tokenizer=vocabulary,
        documents=unique,
        instructions=dialogues,
        preferences=pairs,
    )
