"""Logistic regression over hashed features, in NumPy: a megabyte, trained in seconds, the same numbers every time.

Trained by AdaGrad (Duchi et al. 2011) on mini-batches in an order that a seed decides; good and bad examples weigh
alike, whatever their numbers. All sums are made in one order, so the model depends on the examples and the seed alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.errors import StepError
from components.publish import publish
from components.quality.features import Features

Numbers = NDArray[np.float64]
_BATCH = 256
_DECAY = 1e-6
_KIND = "hashed-ngrams-1-2"


@dataclass(frozen=True)
class Model:
    """Weights of the features, and the bias.

    Attributes:
        weights: One weight per feature, 2^bits of them.
        bias: Added to every sum.
    """

    weights: NDArray[np.float32]
    bias: float

    @property
    def bits(self) -> int:
        """Bits of a feature."""
        return len(self.weights).bit_length() - 1

    def score(self, features: Features) -> Numbers:
        """How much each text reads like the good ones, 0 to 1."""
        return _sigmoid(_sums(self.weights.astype(np.float64), features) + self.bias)

    def save(self, path: Path) -> None:
        """Writes the model as safetensors."""
        from safetensors.numpy import save_file

        tensors = {"weights": self.weights, "bias": np.array([self.bias], dtype=np.float32)}
        with publish(path) as temporary:
            save_file(tensors, temporary, metadata={"headwater": json.dumps({"kind": _KIND, "bits": self.bits})})


def load_model(path: Path) -> Model:
    """Reads a model that `Model.save` wrote.

    Raises:
        StepError: If the file holds none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return Model(tensors["weights"], float(tensors["bias"][0]))
    except (OSError, KeyError, SafetensorError) as error:
        raise StepError("The quality model cannot be read.", str(path), f"run quality again: {error}") from None


def train(features: Features, good: NDArray[np.bool_], bits: int, epochs: int, rate: float, seed: int) -> Model:
    """Trains a model.

    Args:
        features: Of the examples.
        good: Which of them are good ones; there are both.
        bits: Bits of a feature.
        epochs: Times each example is seen.
        rate: Step size.
        seed: Decides the order of the examples.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    weights, squares = np.zeros(1 << bits), np.full(1 << bits, 1e-8)
    bias, bias_square = 0.0, 1e-8
    share = good.mean()
    importance = np.where(good, 0.5 / share, 0.5 / (1 - share))
    for _ in range(epochs):
        order = draw.permutation(len(good))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = select(features, rows)
            error = (_sigmoid(_sums(weights, batch) + bias) - good[rows]) * importance[rows] / len(rows)
            values = np.repeat(error / np.sqrt(np.maximum(batch.counts, 1)), batch.counts)
            slope = np.bincount(batch.indices, weights=values, minlength=1 << bits) + _DECAY * weights
            squares += slope * slope
            weights -= rate * slope / np.sqrt(squares)
            bias_square += error.sum() ** 2
            bias -= rate * error.sum() / np.sqrt(bias_square)
    return Model(weights.astype(np.float32), float(np.float32(bias)))


def select(features: Features, rows: NDArray[np.int64]) -> Features:
    """The features of some of the texts, in the order of `rows`."""
    ends = np.cumsum(features.counts)
    counts = features.counts.take(rows)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return Features(features.indices.take(np.repeat(ends.take(rows) - counts, counts) + within), counts)


def auc(scores: Numbers, good: NDArray[np.bool_]) -> float:
    """The chance that a good text has a higher score than a bad one (area under the ROC curve); ties count half."""
    num_good = int(good.sum())
    num_bad = len(good) - num_good
    if not num_good or not num_bad:
        return float("nan")
    _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(times) - (times - 1) / 2
    return float((ranks[place][good].sum() - num_good * (num_good + 1) / 2) / (num_good * num_bad))


def _sums(weights: Numbers, features: Features) -> Numbers:
    docs = np.repeat(np.arange(len(features.counts)), features.counts)
    sums = np.bincount(docs, weights=weights.take(features.indices), minlength=len(features.counts))
    scaled: Numbers = sums / np.sqrt(np.maximum(features.counts, 1))
    return scaled


def _sigmoid(values: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))
