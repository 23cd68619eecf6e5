"""Promise: random labels are fitted; test error descends twice by parameters, epochs and weight decay, and grows with
more rows near the threshold: for other data, weights and label noise than those of the pictures too."""

from __future__ import annotations

import numpy as np
import pytest
from gdcore.chapter.gallery import double_descent
from gdcore.experiments import DoubleDescent
from gdcore.table import Table

SEEDS = (1, 2)


def errors(result: DoubleDescent, which: str = "test_error") -> list[float]:
    column: list[float] = result.curve()[which]
    return column


@pytest.mark.parametrize("seed", SEEDS)
def test_random_labels_are_fitted(seed: int) -> None:
    true, random = double_descent.fit_labels(seed, shares=(0.0, 1.0), repeats=1).summary().rows
    assert true["train_accuracy"] == random["train_accuracy"] == 1.0
    assert true["test_accuracy"] > 0.9 and abs(random["test_accuracy"] - 0.1) < 0.05
    assert random["epochs_to_fit"] > 1.5 * true["epochs_to_fit"]


@pytest.mark.parametrize("seed", SEEDS)
def test_by_width(seed: int) -> None:
    """At 57, 161, 603 and 6,661 parameters: too few, the first minimum, the peak, the second descent."""
    result = double_descent.by_width(seed, widths=(2, 6, 23, 256), repeats=3)
    few, low, peak, many = errors(result)
    assert few > 1.1 * low and peak > 1.05 * low and many < 0.9 * peak and many < 1.01 * low
    assert result.curve()["parameters"] == [57, 161, 603, 6661]
    train = errors(result, "train_error")
    assert train[1] > 0.2 and train[2] < 0.1 and result.threshold == 6661  # the peak is just before the threshold


@pytest.mark.parametrize("seed", SEEDS)
def test_by_epochs(seed: int) -> None:
    result = double_descent.by_epochs(seed, repeats=2)
    test, train = np.array(errors(result)), errors(result, "train_error")
    assert result.peak is not None
    at = result.curve()["epoch"].index(result.peak)
    assert test[0] > 0.5 and test[at] > 1.3 * test[:at].min() and test[-1] < 0.85 * test[at]
    assert train[at] < 0.01 and train[-1] == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_by_decay(seed: int) -> None:
    strong, low, peak, weak = errors(double_descent.by_decay(seed, decays=(0.4, 0.2, 0.02, 0.001), repeats=2))
    assert strong > 1.3 * low and peak > 1.06 * low and weak < 0.92 * peak


@pytest.mark.parametrize("seed", SEEDS)
def test_by_samples(seed: int) -> None:
    """At 109 parameters more rows help; at 603 and 837, where 600 rows are just fitted, they make it worse."""
    few, many = double_descent.by_samples(seed, widths=(4, 23, 32, 128), repeats=3)
    gaps = np.array(errors(many)) - np.array(errors(few))
    assert gaps[0] < -0.05 and gaps[1:3].mean() > 0.015
    train = np.array([errors(result, "train_error") for result in (few, many)])
    assert train[0, 0] < train[1, 0] and train[0, 1] <= train[1, 1]  # more rows: fitted by larger networks


def test_the_stretch_where_more_rows_are_worse() -> None:
    """Around the largest difference, each above two standard errors."""
    few, many = (_made(errors) for errors in ([0.4, 0.3, 0.3, 0.3, 0.2, 0.3], [0.3, 0.302, 0.35, 0.4, 0.201, 0.35]))
    assert double_descent.worse_with_more(few, many) == [30, 40]
    title = "From 30 to 40 parameters 600 rows are worse than 150: 0.400 against 0.300 at 40"
    assert double_descent._title((few, many), [30, 40]) == title
    assert double_descent.worse_with_more(many, many) == []
    assert double_descent._title((many, many), []) == "At no size are 600 rows worse than 150 beyond the noise"


def _made(means: list[float]) -> DoubleDescent:
    rows = [
        {"parameters": 10 * (i + 1), "width": i, "seed": seed, "train_error": 0.0, "test_error": mean + shift}
        for i, mean in enumerate(means)
        for seed, shift in enumerate((-0.01, 0.01))
    ]
    return DoubleDescent("parameters", "train_error", "test_error", "error", Table(rows), 0.005, 1.0)
