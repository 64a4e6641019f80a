"""From web pages or files to an encoder that labels texts: masked words first, then the labels.

The same shape learns the labels from weights drawn anew too, so that what pretraining was worth can be read off.
The labelled texts are prepared while pages are fetched. Those of the sample that are held out are on none of its pages;
of your own (`source.labelled`) a held-out text may be in the corpus too, without its label: name the file as
`source.benchmarks` to take such documents out.
"""

from __future__ import annotations

from dataclasses import replace

from components.classify.evaluate import evaluate_classifier
from components.classify.step import classify
from components.labelled.step import labelled
from pipelines.config import Settings
from pipelines.engine.step import Artifact, Recipe
from pipelines.recipes.data import corpus
from pipelines.recipes.pretrain import pretrained
from pipelines.recipes.training import train_step


def encoder(run: Recipe, settings: Settings) -> Artifact:
    """Declares the steps of the recipe; nothing runs here."""
    given = settings.source.labelled
    file = None if given is None else run.file(given, "labelled")
    texts = run.step(labelled, settings.labelled, file=file)
    base = pretrained(run, settings, corpus(run, settings))

    def fine_tuned(name: str, scratch: bool) -> Artifact:
        return train_step(
            run, settings, classify, replace(settings.classify, scratch=scratch), name=name, base=base, labelled=texts
        )

    return run.step(
        evaluate_classifier,
        settings.evaluate_classifier,
        classifier=fine_tuned("classify", settings.classify.scratch),
        labelled=texts,
        scratch=fine_tuned("classify_scratch", scratch=True),
    )
