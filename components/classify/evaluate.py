"""Judging a classifier as a step: the published folder labels held-out texts, beside two simpler ways.

The artifact:
    scores.json         for classifier, bag of words and majority: accuracy with its standard error, and macro F1
    predictions.json    id, label and what was said of every held-out text
    tables.json         the scores as a table
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.classify.config import EvaluateClassifierConfig
from components.context import Context, Json, Metrics
from components.errors import StepError
from components.publish import publish_json
from components.score_table import ScoreTable, number, publish_tables

if TYPE_CHECKING:
    from components.labelled.table import Labelled

VERSION = 1
NAMES = {"classifier": "classifier", "bag_of_words": "bag of words", "majority": "most frequent label"}
_NOTE = (
    "accuracy: share of the held-out texts with the right label, +- one standard error. macro F1: the labels' F1, each "
    "label counting the same. bag of words: logistic regression on the words and runs of words of the same training "
    "texts."
)


def evaluate_classifier(ctx: Context, config: EvaluateClassifierConfig, classifier: Path, labelled: Path) -> Metrics:
    """Labels held-out texts with a classifier and with its baselines.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        classifier: Artifact of `classify`.
        labelled: Artifact of `labelled`: the baselines learn from its training texts.

    Returns:
        accuracy, accuracy_error (standard error) and f1 of the classifier; bag_of_words_accuracy, bag_of_words_f1,
        majority_accuracy, majority_f1, and texts.

    Raises:
        StepError: If an input cannot be used, or the classifier knows other labels than the texts have.
    """
    from components.classify.baselines import accuracy, bag_of_words, macro_f1, most_frequent
    from components.classify.data import read_classifier, read_labels
    from components.labelled.table import read_labelled

    train = read_labelled(labelled / "train.arrow")
    asked = read_labelled(labelled / "held_out.arrow", config.texts)
    labels, (known, _) = [row.label for row in asked], read_classifier(classifier)
    if known != read_labels(labelled):
        raise StepError(
            f"The classifier tells {', '.join(known)} apart, the texts have other labels.",
            where=str(classifier),
            fix="evaluate a classifier on the texts it was made for",
        )
    ctx.progress(0, len(asked), "texts", "classifier")
    said = {"classifier": _said(config, classifier, labelled)}
    ctx.progress(0, len(asked), "texts", "bag of words")
    texts = [row.text for row in train]
    seen = [row.label for row in train]
    said["bag_of_words"] = bag_of_words(texts, seen, [row.text for row in asked], config.ngrams)
    said["majority"] = most_frequent(seen, len(asked))
    scores = {name: {"accuracy": accuracy(one, labels), "f1": macro_f1(one, labels)} for name, one in said.items()}
    for values in scores.values():
        values["accuracy_error"] = math.sqrt(values["accuracy"] * (1 - values["accuracy"]) / len(labels))
    _publish(ctx, config, scores, said, asked)
    ctx.progress(len(asked), len(asked), "texts")
    own = scores.pop("classifier")
    others = {f"{name}_{key}": values[key] for name, values in scores.items() for key in ("accuracy", "f1")}
    return {**own, **others, "texts": float(len(asked))}


def _said(config: EvaluateClassifierConfig, classifier: Path, labelled: Path) -> list[str]:
    """What the classifier says of the held-out texts, in their order."""
    import torch

    from components.classify.data import lay_out, read_classifier, read_examples
    from components.classify.task import label_scores
    from components.launching import device_of
    from components.model.huggingface import load_classifier
    from components.posttrain.replies import batches_by_length
    from components.tokenizer.load import TextTokenizer

    folder = classifier / "model"
    device = device_of(0)
    model = load_classifier(folder).to(device).eval()
    tokenizer = TextTokenizer.from_folder(folder)
    labels, longest = read_classifier(classifier)
    examples = read_examples(labelled / "held_out.arrow", labels, tokenizer, longest, config.texts)
    said = [""] * len(examples)
    with torch.no_grad():
        for indices in batches_by_length([len(example.ids) for example in examples], config.micro_batch):
            batch = lay_out([examples[index] for index in indices], len(indices))
            scores_BL = label_scores(model, {name: tensor.to(device) for name, tensor in batch.items()})
            for index, best in zip(indices, scores_BL.argmax(-1).tolist(), strict=True):
                said[index] = labels[best]
    return said


def _publish(
    ctx: Context,
    config: EvaluateClassifierConfig,
    scores: dict[str, dict[str, float]],
    said: dict[str, list[str]],
    asked: Sequence[Labelled],
) -> None:
    content: dict[str, Json] = {name: dict(values) for name, values in scores.items()}
    publish_json(ctx.output / "scores.json", content)
    ours = said["classifier"]
    predictions: list[Json] = [
        {"id": row.id, "label": row.label, "said": one} for row, one in zip(asked, ours, strict=True)
    ]
    publish_json(ctx.output / "predictions.json", predictions)
    rows = tuple(
        (NAMES[name], f"{number(values['accuracy'])} +- {number(values['accuracy_error'])}", number(values["f1"]))
        for name, values in scores.items()
    )
    title = f"Labels of {len(asked)} held-out texts"
    publish_tables(ctx.output, [ScoreTable(title, ("classifier", "accuracy", "macro F1"), rows, _NOTE)])
    wrong = [(row, one) for row, one in zip(asked, ours, strict=True) if row.label != one][: config.mistakes]
    for row, one in wrong:
        ctx.text("mistake", f"{row.label}, not {one}: {row.text[:200]}", 0)
