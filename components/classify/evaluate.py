"""Judging a classifier as a step: the published folder labels held-out texts, beside three simpler ways.

The artifact:
    scores.json         for classifier, scratch, bag of words and majority: accuracy with its standard error, macro F1,
                        and for the last three how much more accurate the classifier is, with the standard error
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
NAMES = {
    "classifier": "pre-trained encoder",
    "scratch": "encoder from scratch",
    "bag_of_words": "bag of words",
    "majority": "most frequent label",
}
_NOTE = (
    "accuracy: share of the held-out texts with the right label, and its 95 % interval (Wilson). macro F1: the labels' "
    "F1, each label counting the same. lead: how much more accurate the pre-trained encoder is, text by text, +- 1.96 "
    "standard errors. encoder from scratch: the same shape fine-tuned in the same way from weights drawn anew. bag of "
    "words: logistic regression on the words and runs of words. All learn from the same labels."
)


def evaluate_classifier(
    ctx: Context, config: EvaluateClassifierConfig, classifier: Path, labelled: Path, scratch: Path | None = None
) -> Metrics:
    """Labels held-out texts with a classifier and with its baselines.

    Args:
        ctx: What a step is given.
        config: Settings of the step.
        classifier: Artifact of `classify`.
        labelled: Artifact of `labelled`: the baselines learn from its training texts.
        scratch: Artifact of `classify` with `scratch=true`, to be shown beside.

    Returns:
        accuracy, accuracy_error (standard error) and f1 of the classifier; accuracy, f1, lead (of the classifier over
        it) and lead_error of each other, as bag_of_words_accuracy or scratch_lead; and texts.

    Raises:
        StepError: If an input cannot be used, or the classifier knows other labels than the texts have.
    """
    from components.classify.baselines import accuracy, bag_of_words, lead, macro_f1, most_frequent
    from components.labelled.table import read_labelled

    train = read_labelled(labelled / "train.arrow")
    asked = read_labelled(labelled / "held_out.arrow", config.texts)
    labels = [row.label for row in asked]
    said = {}
    for name, folder in {"classifier": classifier, "scratch": scratch}.items():
        if folder is not None:
            ctx.progress(0, len(asked), "texts", NAMES[name])
            said[name] = _said(config, folder, labelled)
    ctx.progress(0, len(asked), "texts", "bag of words")
    texts = [row.text for row in train]
    seen = [row.label for row in train]
    said["bag_of_words"] = bag_of_words(texts, seen, [row.text for row in asked], config.ngrams)
    said["majority"] = most_frequent(seen, len(asked))
    scores = {name: {"accuracy": accuracy(one, labels), "f1": macro_f1(one, labels)} for name, one in said.items()}
    for name, values in scores.items():
        values["accuracy_error"] = math.sqrt(values["accuracy"] * (1 - values["accuracy"]) / len(labels))
        if name != "classifier":
            values["lead"], values["lead_error"] = lead(said["classifier"], said[name], labels)
    _publish(ctx, config, scores, said, asked)
    ctx.progress(len(asked), len(asked), "texts")
    own = scores.pop("classifier")
    told = ("accuracy", "f1", "lead", "lead_error")
    others = {f"{name}_{key}": values[key] for name, values in scores.items() for key in told}
    return {**own, **others, "texts": float(len(asked))}


def _said(config: EvaluateClassifierConfig, classifier: Path, labelled: Path) -> list[str]:
    """What the classifier says of the held-out texts, in their order.

    Raises:
        StepError: If it knows other labels than the texts have.
    """
    import torch

    from components.classify.data import lay_out, read_classifier, read_examples, read_labels
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
    if labels != read_labels(labelled):
        raise StepError(
            f"The classifier tells {', '.join(labels)} apart, the texts have other labels.",
            where=str(classifier),
            fix="evaluate a classifier on the texts it was made for",
        )
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
    rows = tuple(_row(name, values, len(asked)) for name, values in scores.items())
    title = f"Labels of {len(asked)} held-out texts"
    header = ("classifier", "accuracy", "95 % interval", "macro F1", "lead")
    publish_tables(ctx.output, [ScoreTable(title, header, rows, _NOTE)])
    wrong = [(row, one) for row, one in zip(asked, ours, strict=True) if row.label != one][: config.mistakes]
    for row, one in wrong:
        ctx.text("mistake", f"{row.label}, not {one}: {row.text[:200]}", 0)


def _row(name: str, values: dict[str, float], count: int) -> tuple[str, ...]:
    from components.evaluate.statistics import wilson_interval

    low, high = wilson_interval(values["accuracy"], count)
    lead = f"{values['lead']:+.3f} +- {number(1.96 * values['lead_error'])}" if "lead" in values else "-"
    return NAMES[name], number(values["accuracy"]), f"{number(low)} to {number(high)}", number(values["f1"]), lead
