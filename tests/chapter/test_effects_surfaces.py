"""Promise: what the pictures of surfaces, convergence and optimisers show also holds for other seeds: several minima,
starts that matter less in large networks, momentum that cancels swings, and AdaGrad's halt."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore.analysis.problems import adam_moments
from gdcore.chapter.gallery import descent, minima, optimisers

SEEDS = pytest.mark.parametrize("seed", [1, 2])


@SEEDS
def test_the_start_decides_which_minimum_is_found(seed: int) -> None:
    """Slides 2-4: a global and two local minima, saddles and a maximum; descent ends in each of the minima."""
    found = minima.endings(seed, starts=40)
    values = [point.value for _, point in found.of("minimum")]
    assert len(values) == 3 and values[1] > 1.15 * values[0]
    assert len(found.of("saddle")) >= 2 and len(found.of("maximum")) == 1
    assert max(values) < min(point.value for _, point in found.of("saddle"))
    assert sum(found.counts) >= 38 and min(found.counts) >= 2
    assert 0.2 < found.counts[0] / len(found.ends) < 0.8


@SEEDS
def test_descent_goes_downhill(seed: int) -> None:
    problem = minima.two_bumps(seed)
    starts = np.random.default_rng(seed).uniform(-minima.REACH, minima.REACH, (3, 2))
    objective = minima.Objective(*problem)
    for path in minima.descents(problem, starts, steps=100):
        values = [objective.value(w) for w in path]
        assert (np.diff(values) <= 1e-12).all()
        expected = path[0] - 5.0 * objective.gradient(path[0])
        np.testing.assert_allclose(path[1], expected, rtol=1e-10)


@SEEDS
def test_large_networks_end_at_nearly_the_same_error(seed: int) -> None:
    """Slides 4 and 12: errors on training and validation rows, of 12 starts."""
    small, large = (minima.errors(minima.restarts_of(width, seed=seed)) for width in (4, 64))
    for few, many in zip(small, large, strict=True):
        assert few.max() / few.min() > 1.5 and many.max() / many.min() < 1.3
    assert large[0].max() < small[0].min()


@SEEDS
def test_contours_become_the_predicted_ellipses(seed: int) -> None:
    """Slide 10: a logistic regression's contours, which a larger distance deforms."""
    surface, objective = descent.logistic_bowl(seed)
    small, large = (descent.ellipse(surface, objective, level)[1] for level in (1e-4, 0.06))
    assert small < 0.05 and large > 4 * small


@SEEDS
def test_learning_rates_in_a_valley(seed: int) -> None:
    """Slides 22 and 25: a small rate crawls, one near 2/λmax swings from side to side, a larger one diverges."""
    start = np.random.default_rng(seed).uniform((-6, 0.5), (-4, 1.5))
    slow, swinging, diverging = descent.valley_paths(start)
    assert abs(slow[-1, 0]) > 0.8 * abs(start[0]) and abs(swinging[-1, 0]) < 0.3 * abs(start[0])
    assert (np.sign(slow[:10, 1]) == 1).all() and abs(slow[-1, 1]) < 0.05 * start[1]
    for path in (swinging, diverging):
        assert (np.diff(np.sign(path[:, 1])) != 0).all()
    assert abs(swinging[-1, 1]) < 0.5 * start[1] < start[1] * 2 < abs(diverging[-1, 1])


@SEEDS
def test_each_direction_shrinks_by_its_own_factor(seed: int) -> None:
    """Slides 23-24, in a random basis."""
    factors, measured, predicted = descent.shrinking(seed)
    np.testing.assert_allclose(factors, [0.9, 0.6, -0.8])
    np.testing.assert_allclose(measured, predicted, rtol=1e-6)
    np.testing.assert_allclose(measured[-1], np.abs(factors) ** 40, rtol=1e-6)


@pytest.mark.parametrize("condition", [7.0, 30.0, 150.0])
def test_the_condition_number_sets_the_number_of_steps(condition: float) -> None:
    """Slide 25: at η = 2/λmax the flattest direction shrinks by 1 - 2λmin/λmax."""
    expected = np.log(0.01) / np.log(1 - 2 / condition)
    assert descent.steps_to(0.01, condition) == int(np.ceil(expected))


@SEEDS
def test_momentum_cancels_the_swing_of_a_ravine(seed: int) -> None:
    """Slides 26-27, near η = 2/λmax: plain descent crosses the ravine in every step, momentum comes to rest on it."""
    start = np.random.default_rng(seed).uniform((-6, 0.5), (-4, 1.5))
    plain, momentum = optimisers.ravine_paths(start)
    assert (np.diff(np.sign(plain[:, 1])) != 0).all() and abs(plain[-1, 1]) > 0.2 * start[1]
    assert np.abs(momentum[-3:, 1]).max() < 0.02 * start[1]
    assert abs(momentum[-1, 0]) < 0.5 * abs(plain[-1, 0])


def test_momentum_on_the_floor_goes_at_the_rate_divided_by_1_minus_mu() -> None:
    """Slide 27: along the floor, where the gradient hardly changes, a step is nearly -η/(1-μ) times the gradient."""
    _, path = optimisers.ravine_paths((-5.0, 0.0), share=0.02, steps=20)
    eta = 0.02 * 2 / max(optimisers.RAVINE)
    ratio = (path[-1, 0] - path[-2, 0]) / -path[-2, 0]
    assert ratio == pytest.approx(eta / (1 - optimisers.MU), rel=0.01)


@SEEDS
def test_rates_of_their_own_help_along_an_axis_only(seed: int) -> None:
    """Slide 28: AdaGrad, RMSProp and Adam in a valley along an axis and at 45°."""
    start = np.random.default_rng(seed).uniform((-4.2, 0.6), (-3.6, 1.0))
    axis, turned = (optimisers.adaptive_paths(degrees, start) for degrees in (0, 45))
    left: Any = [{name: optimisers.way_left(path) for name, path in paths.items()} for paths in (axis, turned)]
    for name in ("AdaGrad", "RMSProp", "Adam"):
        assert left[0][name] < 0.4 * left[0]["SGD"] and left[1][name] > 0.8 * left[1]["SGD"]
    assert left[0]["SGD"] == pytest.approx(left[1]["SGD"])


@SEEDS
def test_adagrad_halts_and_rmsprop_goes_on(seed: int) -> None:
    """Slide 30: after a steep wall AdaGrad's rate stays small, RMSProp's rises on the floor; both have the same η."""
    objective, minimum = optimisers.wall_and_floor(seed)
    assert minimum > 3
    found = {}
    for optimizer in (gd.AdaGrad(lr=0.1), gd.RMSProp(lr=0.1)):
        run = optimisers.adaptive_run(objective, optimizer, -1.0, 120)
        found[type(optimizer).__name__] = run.rates, np.abs(run.weights - minimum) / (minimum + 1)
    rates, left = found["AdaGrad"]
    assert (np.diff(rates) <= 0).all() and rates[-1] < 0.3 * rates[0] and left[-1] > 0.6
    assert left[60] - left[-1] < 0.05  # half of the steps
    rates, left = found["RMSProp"]
    assert rates[-1] > 10 * rates.min() and left[-1] < 0.05


@SEEDS
def test_adams_mean_starts_too_small(seed: int) -> None:
    """Slide 31: by the factor 1 - 0.9^τ, which the correction removes."""
    _, raw, corrected = adam_moments(100, seed)
    assert corrected[0] / raw[0] == pytest.approx(10)
    assert corrected[9] / raw[9] == pytest.approx(1.535, abs=0.001)
    assert corrected[99] / raw[99] == pytest.approx(1, abs=1e-4)
