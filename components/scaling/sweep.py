"""What a sweep found: its points as they were measured, the law through them, and how well it foretold the last one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.context import derive_seed
from components.errors import StepError
from components.publish import read_json
from components.scaling.config import ScalingConfig
from components.scaling.law import (
    Interval,
    Law,
    Point,
    bootstrap,
    errors_left_out,
    fit,
    form_for,
    interval,
    num_constants,
    residuals,
)

HELD_BACK_DRAWS = 60
"""Resamplings for a size that is held back: each size takes seconds, and only a share is read off them."""


@dataclass(frozen=True)
class Findings:
    """The result of a sweep.

    Attributes:
        points: What the law was fitted to.
        held_out: What it was compared with.
        law: The fit.
        constants: Its constants, each with an interval.
        prediction: Of the held-out training.
        held_back: Each training of the sweep, as the law of the other sizes foretells it.
        targets: Further predictions: parameters, tokens, loss.
        optima: For amounts of arithmetic: FLOPs, best parameters and tokens, and the loss there.
        fit_error: Root mean square of the relative residuals.
        confidence: Of the intervals.
    """

    points: Sequence[Point]
    held_out: Point
    law: Law
    constants: dict[str, Interval]
    prediction: Interval
    held_back: Sequence[tuple[Point, Interval]]
    targets: Sequence[tuple[float, float, Interval]]
    optima: Sequence[tuple[float, float, float, float]]
    fit_error: float
    confidence: float

    @property
    def error(self) -> float:
        """How far the prediction lies from what was measured, relative and signed."""
        return self.prediction.value / self.held_out.loss - 1

    @property
    def inside(self) -> bool:
        """Whether the measured loss lies in the interval."""
        return holds(self.prediction, self.held_out)

    @property
    def coverage(self) -> float:
        """Share of the sweep's trainings that lie in the interval which the other sizes give; NaN where none can."""
        return float(np.mean([holds(guess, point) for point, guess in self.held_back])) if self.held_back else np.nan

    def metrics(self) -> dict[str, float]:
        """The findings as plain numbers."""
        return {
            "predicted": self.prediction.value,
            "measured": self.held_out.loss,
            "error": self.error,
            "low": self.prediction.low,
            "high": self.prediction.high,
            "inside": float(self.inside),
            "points": float(len(self.points)),
            "fit_error": self.fit_error,
            **({"coverage": self.coverage} if self.held_back else {}),
            **{f"law_{name}": value.value for name, value in self.constants.items()},
        }


def read_point(name: str, folder: Path) -> Point:
    """The point of one pretrain artifact: parameters from its weights, tokens from its order, loss from its curve.

    Raises:
        StepError: If it holds no finite loss.
    """
    curve = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    loss = float(curve[-1].get("val_bpb", np.nan)) if curve else np.nan
    if not np.isfinite(loss) or loss <= 0:
        raise StepError(
            f"The training {name} ended without bits per byte of its validation split.",
            where=str(folder / "curve.json"),
            fix="leave pretrain.objective=next-token, and lower pretrain.training.lr if it diverged",
        )
    order = read_json(folder / "order.json")
    tokens = int(str(order["steps"])) * int(str(order["batch_size"])) * int(str(order["length"]))
    return Point(name, float(num_stored(folder / "model")), float(tokens), loss)


def num_stored(model: Path) -> int:
    """Parameters of a model folder, a tied table counted once, read from the headers of its files."""
    from safetensors import safe_open

    total = 0
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            total += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    return total


class Fit:
    """A law through some points and its resamplings, which together foretell a training.

    Args:
        config: Form, resamplings, share of an interval.
        points: What the law is fitted to.
    """

    def __init__(self, config: ScalingConfig, points: Sequence[Point]) -> None:
        self._config = config
        self.law = fit(points, form_for(points, config.form))
        self._errors = errors_left_out(self.law, points)
        self.laws = bootstrap(self.law, points, self._errors, config.draws, derive_seed(config.seed, "bootstrap"))

    def predict(self, parameters: float, tokens: float) -> Interval:
        """The loss of one training, with its interval."""
        seed = derive_seed(self._config.seed, "noise")
        return interval(self.law, self.laws, self._errors, parameters, tokens, self._config.confidence, seed)


def fitted(config: ScalingConfig, points: Sequence[Point], held_out: Point) -> Findings:
    """Fits the law, resamples it, predicts the held-out training and the targets."""
    found = Fit(config, points)
    law = found.law
    edge = (1 - config.confidence) / 2
    resampled = [each.constants() for each in found.laws]
    constants = {
        name: Interval(value, *np.quantile([each[name] for each in resampled], [edge, 1 - edge]).tolist())
        for name, value in law.constants().items()
    }
    targets = []
    for target in config.targets:
        parameters, tokens = (float(part) for part in target.split("@"))
        targets.append((parameters, tokens, found.predict(parameters, tokens)))
    return Findings(
        points,
        held_out,
        law,
        constants,
        found.predict(held_out.parameters, held_out.tokens),
        _held_back(config, points),
        targets,
        _optima(law, held_out),
        float(np.sqrt(np.mean(residuals(law, points) ** 2))),
        config.confidence,
    )


def _held_back(config: ScalingConfig, points: Sequence[Point]) -> list[tuple[Point, Interval]]:
    """Every training as the other sizes foretell it by a law of the same form; none where these are too few for it."""
    told: list[tuple[Point, Interval]] = []
    form = form_for(points, config.form)
    for size in sorted({point.parameters for point in points}):
        others = [point for point in points if point.parameters != size]
        if form_for(others, "auto") != form or len(others) <= num_constants(others, form):
            continue
        found = Fit(replace(config, form=form, draws=min(config.draws, HELD_BACK_DRAWS)), others)
        told += [(point, found.predict(size, point.tokens)) for point in points if point.parameters == size]
    return told


def holds(guess: Interval, point: Point) -> bool:
    """Whether what was measured lies in the interval."""
    return guess.low <= point.loss <= guess.high


def _optima(law: Law, held_out: Point) -> list[tuple[float, float, float, float]]:
    """The best use of the held-out training's arithmetic, and of ten and a hundred times as much."""
    found = []
    for factor in (1, 10, 100):
        flops = 6 * held_out.parameters * held_out.tokens * factor
        best = law.optimum(flops)
        if best is not None:
            found.append((flops, *best, law.predict(*best)))
    return found
