"""What fine-tuning a classifier is told, and what judging it is told."""

from __future__ import annotations

from dataclasses import dataclass

from components.configuring import added, require, runtime
from components.training.checks import refuse_sharing
from components.training.config import TrainingConfig

TRAINING = TrainingConfig(
    steps=400,
    batch_size=32,
    micro_batch=16,
    lr=5e-4,
    warmup_steps=40,
    schedule="linear",
    weight_decay=0.01,
    beta2=0.999,
    eval_every=100,
    checkpoint_every=100,
)


@dataclass(frozen=True)
class ClassifyConfig:
    """Settings of the `classify` step.

    Attributes:
        training: Steps, batch, learning rate, engine. A sequence of `batch_size` is one text.
        max_length: Tokens of a text that are read, with the two that begin and end it; the rest is cut off.
        dropout: Share of activations dropped while training.
        validation_texts: Validation texts that are scored at each evaluation; null scores all of them.
        scratch: Draw the encoder's weights anew: what a model of the same shape learns from the labels alone.
        seed: Root of all randomness of this step: the order of the texts, the head.
    """

    training: TrainingConfig = TRAINING
    max_length: int = 128
    dropout: float = 0.1
    validation_texts: int | None = 500
    scratch: bool = added(False)
    seed: int = 17

    def __post_init__(self) -> None:
        refuse_sharing(self.training, "classify")
        length, fix = self.max_length, "classify.max_length=128"
        require(length >= 3, "classify.max_length", length, "must be at least 3", fix)
        require(0 <= self.dropout < 1, "classify.dropout", self.dropout, "must lie in [0, 1)", "classify.dropout=0.1")
        texts, fix = self.validation_texts, "classify.validation_texts=null"
        require(texts is None or texts >= 1, "classify.validation_texts", texts, "must be at least 1", fix)


@dataclass(frozen=True)
class EvaluateClassifierConfig:
    """Settings of the `evaluate_classifier` step.

    Attributes:
        texts: Held-out texts that are labelled; null takes all of them.
        ngrams: The bag of words counts runs of up to so many words (Chinese characters).
        mistakes: Texts that were labelled wrongly to show.
        micro_batch: Texts of one forward pass.
    """

    texts: int | None = None
    ngrams: int = 2
    mistakes: int = 6
    micro_batch: int = runtime(32)

    def __post_init__(self) -> None:
        texts, fix = self.texts, "evaluate_classifier.texts=null"
        require(texts is None or texts >= 2, "evaluate_classifier.texts", texts, "must be at least 2", fix)
        for name, least in (("ngrams", 1), ("mistakes", 0), ("micro_batch", 1)):
            value, key = getattr(self, name), f"evaluate_classifier.{name}"
            require(value >= least, key, value, f"must be at least {least}", f"{key}={max(2, least)}")
