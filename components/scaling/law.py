"""Fitting a scaling law to a few losses, and saying how sure it is.

Two forms: Chinchilla's L(N, D) = E + A / N^a + B / D^b over parameters and tokens (2203.15556, equation 2), and, for
few points, L(C) = E + K / C^c over arithmetic. Both are sums of an irreducible loss and powers, fitted as there: the
logs of all terms are combined by log-sum-exp, the difference of logs goes through a Huber loss that forgives outliers,
and L-BFGS starts from a grid of points, since the surface has more than one valley. Inputs are divided by the geometric
mean of what was seen, so that amplitudes are losses and not numbers of ten digits; results are given in plain units.

Intervals are bootstrapped: errors are drawn anew and added to the fit, and the law is fitted again. The errors are not
the residuals of the fit, which goes through as many points as it has numbers and leaves nothing there, but what the law
misses each training by when it is fitted to the others (the leave-one-out residuals of the jackknife+, 1905.02928): at
the edges of the sweep these are errors of extrapolation. A bend beyond the largest model seen no interval can know.

Shapes: P points, T power terms, X = 1 + 2 T numbers of a law: log E, then log amplitude and exponent of each term.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array: TypeAlias = NDArray[np.float64]

HUBER = 1e-3
"""Difference of logs from which on a point counts as an outlier."""
FIRST_ITERATIONS, LAST_ITERATIONS = 150, 1000
"""Steps of the descent from each start, and of the best one's to its end."""
ENOUGH_POINTS, ENOUGH_VALUES = 8, 3
_STARTS_E, _STARTS_A, _STARTS_EXPONENT = (-1.5, -0.3), (-1.5,), (0.2, 0.5, 1.0)
"""Starting points: logs of E and of the amplitudes beside the mean log loss, and exponents."""


@dataclass(frozen=True)
class Point:
    """One training that ended.

    Attributes:
        name: What it is called.
        parameters: Of the model.
        tokens: It was trained on.
        loss: At its end.
    """

    name: str
    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        form: "chinchilla" or "compute".
        numbers: log E, and log amplitude and exponent of each term, over scaled inputs [X].
        scales: What the input of each term is divided by [T].
    """

    form: str
    numbers: Array
    scales: Array

    def predict(self, parameters: float, tokens: float) -> float:
        """The loss of a model with so many parameters after so many tokens."""
        inputs = _inputs(self.form, np.array([[parameters, tokens]])) / self.scales
        return float(np.exp(_log_loss(self.numbers, np.log(inputs)))[0])

    def constants(self) -> dict[str, float]:
        """The law's constants over parameters, tokens or FLOPs as they are: E, and A and a, B and b (or K and c)."""
        log_amplitudes, exponents = self.numbers[1::2], self.numbers[2::2]
        plain = np.exp(log_amplitudes + exponents * np.log(self.scales))
        names = (("A", "a"), ("B", "b")) if self.form == "chinchilla" else (("K", "c"),)
        result = {"E": float(np.exp(self.numbers[0]))}
        for (amplitude, exponent), value, power in zip(names, plain, exponents, strict=True):
            result |= {amplitude: float(value), exponent: float(power)}
        return result

    def optimum(self, flops: float) -> tuple[float, float] | None:
        """Parameters and tokens that give the lowest loss for so much arithmetic, C = 6 N D; None for a law over C.

        Equation 4 of 2203.15556.
        """
        if self.form != "chinchilla":
            return None
        found = self.constants()
        a, b = found["a"], found["b"]
        if min(a, b, found["A"], found["B"]) <= 0:
            return None
        ratio = (a * found["A"] / (b * found["B"])) ** (1 / (a + b))
        parameters = ratio * (flops / 6) ** (b / (a + b))
        return parameters, flops / 6 / parameters


@dataclass(frozen=True)
class Interval:
    """A prediction and the range that holds the given share of the resampled ones."""

    value: float
    low: float
    high: float


def form_for(points: Sequence[Point], wish: str) -> str:
    """The form that so many points can carry."""
    if wish != "auto":
        return wish
    sizes, horizons = {point.parameters for point in points}, {point.tokens for point in points}
    enough = len(points) >= ENOUGH_POINTS and min(len(sizes), len(horizons)) >= ENOUGH_VALUES
    return "chinchilla" if enough else "compute"


def num_constants(points: Sequence[Point], wish: str) -> int:
    """Numbers that the law through so many points has; it needs more points than that."""
    return 5 if form_for(points, wish) == "chinchilla" else 3


def fit(points: Sequence[Point], form: str) -> Law:
    """Fits a law to points, from every start of the grid, and keeps the best."""
    inputs_PT = _inputs(form, np.array([[point.parameters, point.tokens] for point in points]))
    scales_T = np.exp(np.log(inputs_PT).mean(axis=0))
    logs_PT = np.log(inputs_PT / scales_T)
    targets_P = np.log([point.loss for point in points])
    terms = inputs_PT.shape[1]
    center = float(targets_P.mean())
    base_X = np.array([center, *[center, 0.0] * terms])
    grid = itertools.product(_STARTS_E, *[_STARTS_A, _STARTS_EXPONENT] * terms)
    starts = [base_X + np.array(start) for start in grid]
    return Law(form, _best(starts, logs_PT, targets_P), scales_T)


def residuals(law: Law, points: Sequence[Point]) -> Array:
    """Differences of the logs of measured and fitted losses, [P]."""
    return np.array([np.log(point.loss / law.predict(point.parameters, point.tokens)) for point in points])


def errors_left_out(law: Law, points: Sequence[Point]) -> Array:
    """What the law misses each point by when it is fitted to the others: differences of logs, [P]."""
    logs_PT, targets_P = _logs(law, points), np.log([point.loss for point in points])
    errors_P = np.empty(len(points))
    for left in range(len(points)):
        others = np.arange(len(points)) != left
        numbers_X = _best([law.numbers], logs_PT[others], targets_P[others])
        errors_P[left] = targets_P[left] - _log_loss(numbers_X, logs_PT[left : left + 1])[0]
    return errors_P


def bootstrap(law: Law, points: Sequence[Point], errors_P: Array, draws: int, seed: int) -> list[Law]:
    """Laws fitted to the fit plus errors drawn anew, centred."""
    logs_PT = _logs(law, points)
    fitted_P = _log_loss(law.numbers, logs_PT)
    generator = np.random.default_rng(seed)
    laws = []
    for _ in range(draws):
        targets_P = fitted_P + generator.choice(errors_P - errors_P.mean(), len(points))
        laws.append(Law(law.form, _best([law.numbers], logs_PT, targets_P), law.scales))
    return laws


def interval(
    law: Law, laws: Sequence[Law], errors_P: Array, parameters: float, tokens: float, confidence: float, seed: int
) -> Interval:
    """The predicted loss of one training, with the error that the law makes for a single training.

    Args:
        law: The fit.
        laws: Its resamplings.
        errors_P: What a training differs by from a law that has not seen it.
        parameters: Of the model.
        tokens: It is trained on.
        confidence: Share of the resamplings inside.
        seed: Of the drawn errors.
    """
    generator = np.random.default_rng(seed)
    drawn = [each.predict(parameters, tokens) * np.exp(generator.choice(errors_P)) for each in laws]
    edge = (1 - confidence) / 2
    low, high = np.quantile(drawn, [edge, 1 - edge])
    return Interval(law.predict(parameters, tokens), float(low), float(high))


def _inputs(form: str, sizes_P2: Array) -> Array:
    """What the terms are powers of, [P, T]: parameters and tokens, or the arithmetic of both."""
    return sizes_P2 if form == "chinchilla" else 6 * sizes_P2.prod(axis=1, keepdims=True)


def _logs(law: Law, points: Sequence[Point]) -> Array:
    """Logs of what the terms of a law are powers of, scaled, [P, T]."""
    inputs_PT = _inputs(law.form, np.array([[point.parameters, point.tokens] for point in points]))
    logs_PT: Array = np.log(inputs_PT / law.scales)
    return logs_PT


def _log_loss(numbers_X: Array, logs_PT: Array) -> Array:
    terms_PT = numbers_X[1::2] - numbers_X[2::2] * logs_PT
    whole = np.concatenate([np.full((len(logs_PT), 1), numbers_X[0]), terms_PT], axis=1)
    result: Array = np.logaddexp.reduce(whole, axis=1)
    return result


def _best(starts: Sequence[Array], logs_PT: Array, targets_P: Array) -> Array:
    bounds = [(None, None), *[(None, None), (0.0, 3.0)] * logs_PT.shape[1]]

    def cost(numbers_X: Array) -> tuple[float, Array]:
        terms_PT = np.concatenate(
            [np.full((len(logs_PT), 1), numbers_X[0]), numbers_X[1::2] - numbers_X[2::2] * logs_PT], axis=1
        )
        fitted_P = np.logaddexp.reduce(terms_PT, axis=1)
        off_P = fitted_P - targets_P
        small = np.abs(off_P) <= HUBER
        value = np.where(small, 0.5 * off_P**2, HUBER * (np.abs(off_P) - 0.5 * HUBER)).sum()
        slope_P = np.where(small, off_P, HUBER * np.sign(off_P))
        share_PT = np.exp(terms_PT - fitted_P[:, None])
        slope_PT = slope_P[:, None] * share_PT
        gradient = np.empty_like(numbers_X)
        gradient[0] = slope_PT[:, 0].sum()
        gradient[1::2] = slope_PT[:, 1:].sum(axis=0)
        gradient[2::2] = (-slope_PT[:, 1:] * logs_PT).sum(axis=0)
        return float(value) * 1e6, gradient * 1e6  # the default tolerances are absolute

    def descended(start: Array, iterations: int) -> Array:
        limits = {"maxiter": iterations, "maxfun": 2 * iterations}
        found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=limits)
        numbers_X: Array = found.x
        return numbers_X

    best = min((descended(start, FIRST_ITERATIONS) for start in starts), key=lambda numbers_X: cost(numbers_X)[0])
    return descended(best, LAST_ITERATIONS)
