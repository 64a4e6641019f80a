"""What a sweep found: its points as they were measured, the law through them, and how well it foretold the last one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.context import derive_seed
from components.errors import StepError
from components.publish import read_json
from components.scaling.config import ScalingConfig
from components.scaling.law import Interval, Law, Point, bootstrap, fit, form_for, interval, residuals


@dataclass(frozen=True)
class Findings:
    """The result of a sweep.

    Attributes:
        points: What the law was fitted to.
        held_out: What it was compared with.
        law: The fit.
        constants: Its constants, each with an interval.
        prediction: Of the held-out training.
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
        return self.prediction.low <= self.held_out.loss <= self.prediction.high

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


def fitted(config: ScalingConfig, points: Sequence[Point], held_out: Point) -> Findings:
    """Fits the law, resamples it, predicts the held-out training and the targets."""
    law = fit(points, form_for(points, config.form))
    laws = bootstrap(law, points, config.draws, derive_seed(config.seed, "bootstrap"))
    noise = residuals(law, points)

    def predicted(parameters: float, tokens: float) -> Interval:
        seed = derive_seed(config.seed, "noise")
        return interval(law, laws, noise, parameters, tokens, config.confidence, seed)

    edge = (1 - config.confidence) / 2
    resampled = [each.constants() for each in laws]
    constants = {
        name: Interval(value, *np.quantile([each[name] for each in resampled], [edge, 1 - edge]).tolist())
        for name, value in law.constants().items()
    }
    targets = []
    for target in config.targets:
        parameters, tokens = (float(part) for part in target.split("@"))
        targets.append((parameters, tokens, predicted(parameters, tokens)))
    return Findings(
        points,
        held_out,
        law,
        constants,
        predicted(held_out.parameters, held_out.tokens),
        targets,
        _optima(law, held_out),
        float(np.sqrt(np.mean(noise**2))),
        config.confidence,
    )


def _optima(law: Law, held_out: Point) -> list[tuple[float, float, float, float]]:
    """The best use of the held-out training's arithmetic, and of ten and a hundred times as much."""
    found = []
    for factor in (1, 10, 100):
        flops = 6 * held_out.parameters * held_out.tokens * factor
        best = law.optimum(flops)
        if best is not None:
            found.append((flops, *best, law.predict(*best)))
    return found
