"""A law that made the points is found again, predicts beyond them, and knows how unsure it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.scaling.law import Law, Point, bootstrap, errors_left_out, fit, form_for, interval, residuals

SIZES = (5e4, 1e5, 2e5, 4e5)
TOKENS = (1e5, 3e5, 9e5)


def chinchilla(n: float, d: float, e: float = 1.7, a: float = 0.34, b: float = 0.28) -> float:
    return e + 400 / 1e2 * (1e3 / n) ** a + 410 / 1e2 * (1e3 / d) ** b


def points(noise: float = 0.0, seed: int = 0) -> list[Point]:
    generator = np.random.default_rng(seed)
    return [
        Point(f"{n:g}@{d:g}", n, d, chinchilla(n, d) * np.exp(noise * generator.standard_normal()))
        for n in SIZES
        for d in TOKENS
    ]


def test_the_law_behind_noiseless_points_is_found_and_reaches_beyond_them():
    law = fit(points(), "chinchilla")
    assert np.abs(residuals(law, points())).max() < 1e-4
    assert law.predict(2e6, 3e6) == pytest.approx(chinchilla(2e6, 3e6), rel=2e-3)
    constants = law.constants()
    assert constants["a"] == pytest.approx(0.34, abs=0.02)
    assert constants["b"] == pytest.approx(0.28, abs=0.02)
    assert constants["E"] == pytest.approx(1.7, abs=0.1)


def test_constants_are_given_over_plain_parameters_and_tokens():
    law = fit(points(), "chinchilla")
    c = law.constants()
    assert law.predict(3e5, 2e6) == pytest.approx(c["E"] + c["A"] / 3e5 ** c["a"] + c["B"] / 2e6 ** c["b"])


@given(st.floats(1.0, 3.0), st.floats(0.15, 0.6), st.floats(0.15, 0.6))
@settings(max_examples=5)
def test_any_law_of_the_form_fits_its_own_points(e, a, b):
    made = [Point("", n, d, chinchilla(n, d, e, a, b)) for n in SIZES for d in TOKENS]
    assert np.sqrt(np.mean(residuals(fit(made, "chinchilla"), made) ** 2)) < 2e-3


def test_an_outlier_does_not_pull_the_law_after_it():
    spoilt = points()
    spoilt[5] = Point("diverged", spoilt[5].parameters, spoilt[5].tokens, spoilt[5].loss * 1.3)
    assert fit(spoilt, "chinchilla").predict(1e6, 1e6) == pytest.approx(chinchilla(1e6, 1e6), rel=0.01)


def test_the_form_over_arithmetic_is_found_again():
    made = [Point("", n, d, 1.2 + 30 * (6 * n * d) ** -0.15) for n, d in zip(SIZES, (1e5, 2e5, 4e5, 8e5), strict=True)]
    law = fit(made, "compute")
    assert law.predict(1e6, 2e6) == pytest.approx(1.2 + 30 * (12e12) ** -0.15, rel=5e-3)
    assert set(law.constants()) == {"E", "K", "c"}
    assert law.optimum(1e12) is None


def test_the_best_use_of_arithmetic_is_better_than_its_neighbours():
    law = fit(points(), "chinchilla")
    parameters, tokens = law.optimum(1e13) or (0.0, 0.0)
    assert 6 * parameters * tokens == pytest.approx(1e13)
    best = law.predict(parameters, tokens)
    for factor in (0.7, 1.4):
        assert law.predict(parameters * factor, tokens / factor) > best


def test_more_noise_gives_wider_intervals_and_no_draw_depends_on_the_clock():
    widths = []
    for noise in (0.001, 0.01):
        made = points(noise)
        law = fit(made, "chinchilla")
        errors = errors_left_out(law, made)
        found = interval(law, bootstrap(law, made, errors, 40, seed=3), errors, 1e6, 1e6, 0.9, seed=4)
        again = interval(law, bootstrap(law, made, errors, 40, seed=3), errors, 1e6, 1e6, 0.9, seed=4)
        assert found == again
        assert found.low <= found.value * 1.05
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_a_law_is_not_judged_by_points_that_it_was_fitted_to():
    made = points()
    made[7] = Point("noisy", made[7].parameters, made[7].tokens, made[7].loss * 1.01)
    law = fit(made, "chinchilla")
    errors = errors_left_out(law, made)
    assert errors[7] == pytest.approx(np.log(1.01), rel=0.05)
    noisy = points(0.01, 1)
    law = fit(noisy, "chinchilla")
    assert np.std(errors_left_out(law, noisy)) > 1.2 * np.std(residuals(law, noisy))


@pytest.mark.slow  # fits a few hundred laws: about 15 s
def test_intervals_hold_a_larger_training_about_as_often_as_they_say():
    inside = 0
    for seed in range(10):
        made = points(0.004, seed)
        law = fit(made, "chinchilla")
        errors = errors_left_out(law, made)
        found = interval(law, bootstrap(law, made, errors, 40, seed), errors, 8e5, 9e5, 0.9, seed)
        noise = np.exp(0.004 * np.random.default_rng(100 + seed).standard_normal())
        inside += found.low <= chinchilla(8e5, 9e5) * noise <= found.high
    assert inside >= 8


def test_few_points_get_the_form_with_few_constants():
    assert form_for(points(), "auto") == "chinchilla"
    assert form_for(points()[:5], "auto") == "compute"
    assert form_for([point for point in points() if point.tokens == 1e5] * 3, "auto") == "compute"
    assert form_for(points()[:5], "chinchilla") == "chinchilla"


def test_a_law_falls_with_both_of_its_inputs():
    law: Law = fit(points(0.01, 5), "chinchilla")
    assert law.predict(1e5, 1e5) > law.predict(1e6, 1e5) > law.predict(1e6, 1e6)
