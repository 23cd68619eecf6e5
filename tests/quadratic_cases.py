"""Models for tests of the loss around a point: a linear regression, and nets with noise."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import numpy as np
import pytest
from gdcore.analysis.objective import Objective
from gdcore.analysis.quadratic import QuadraticModel


def regression(rng: Any, rows: int = 40, inputs: int = 4) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    """A linear model of noisy data; its loss is quadratic."""
    x = rng.standard_normal((rows, inputs)) * np.geomspace(0.5, 2.0, inputs)
    y = x @ rng.standard_normal((inputs, 1)) + 0.3 * rng.standard_normal((rows, 1))
    return gd.Sequential(gd.Dense(inputs, 1), seed=0, dtype="float64"), gd.MeanSquaredError(), x, y


def tanh_net(rng: Any) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    model = gd.Sequential(gd.Dense(2, 3), gd.Tanh(), gd.Dense(3, 2), seed=1, dtype="float64")
    return model, gd.CrossEntropy(), rng.standard_normal((30, 2)), rng.integers(0, 2, 30)


def noisy_net(rng: Any) -> tuple[gd.Sequential, gd.Loss, np.ndarray, np.ndarray]:
    """A net with the weights that generated its data, up to noise: near a minimum where all weights matter."""
    model = gd.Sequential(gd.Dense(1, 2), gd.Tanh(), gd.Dense(2, 1), seed=0, dtype="float64")
    weights = {"layers.0.weight": [[2.0], [-1.0]], "layers.0.bias": [1.0, 1.5], "layers.2.weight": [[1.0, 1.5]]}
    for name, values in weights.items():
        model.parameters()[name][...] = values
    x = np.linspace(-3, 3, 60)[:, None]
    return model, gd.MeanSquaredError(), x, model.predict(x) + 0.1 * rng.standard_normal(x.shape)


def at_its_minimum(problem: Any) -> QuadraticModel:
    """Move a model to a minimum, up to rounding, and return the quadratic model there."""
    optimize = pytest.importorskip("scipy.optimize")
    objective = Objective(*problem)
    found = optimize.minimize(objective.value_and_gradient, objective.point, jac=True, method="BFGS")
    objective.move(found.x)
    for _ in range(5):
        objective.move(QuadraticModel(*problem).minimum)
    return QuadraticModel(*problem)
