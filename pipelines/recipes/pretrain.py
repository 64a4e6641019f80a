"""From web pages or files to a pretrained model, and how well it predicts text it has not seen.

The first half of `chat`, for those who align elsewhere or not at all. The objective is `pretrain.objective`: a model of
the next token is scored in bits per byte beside byte models; encoders and encoder-decoders are scored where they learn.
"""

from __future__ import annotations

from components.evaluate.base import evaluate_base
from components.pretrain.step import pretrain as pretrain_step
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe
from pipelines.recipes.data import Corpus, corpus
from pipelines.recipes.start import with_start
from pipelines.recipes.training import train_step


def pretrain(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    text = corpus(run, settings)
    base = pretrained(run, settings, text)
    if settings.pretrain.objective != "next-token":
        return base
    return run.step(
        evaluate_base,
        settings.evaluate_base,
        base=base,
        tokens=text.tokens,
        tokenizer=text.vocabulary,
        documents=text.documents,
    )


def pretrained(run: Recipe, settings: Settings, text: Corpus) -> Artifact:
    """Declares pretraining on a corpus: of this recipe and of every one that begins with it."""
    config, start = with_start(run, settings.pretrain)
    return train_step(
        run, settings, pretrain_step, config, tokens=text.tokens, tokenizer=text.vocabulary, rows=text.rows, start=start
    )
