"""From pairs of texts to an encoder-decoder that writes one of the other: translation, summaries, any rewriting.

The pairs are a file (`source.pairs`) or the sample's English and Chinese phrases. The tokenizer is trained on both
sides of the training pairs, unless `tokenizer.path` gives one.
"""

from __future__ import annotations

from components.pairs.step import pairs
from components.translate.evaluate import evaluate_translation
from components.translate.step import translate as translate_step
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe
from pipelines.recipes.data import vocabulary_of
from pipelines.recipes.training import train_step


def translate(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    given = settings.source.pairs
    texts = run.step(pairs, settings.pairs, file=None if given is None else run.file(given, "pairs"))
    vocabulary = vocabulary_of(run, settings, texts)
    translator = train_step(run, settings, translate_step, settings.translate, pairs=texts, tokenizer=vocabulary)
    return run.step(evaluate_translation, settings.evaluate_translation, translator=translator, pairs=texts)
