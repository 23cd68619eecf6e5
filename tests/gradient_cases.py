"""Layers and losses for the comparison of derivatives with finite differences, and the comparison itself."""

from __future__ import annotations

from typing import Any

import gdcore as gd
import helpers
import numpy as np

H = 1e-5


LAYERS: dict[str, list[Any]] = {
    "Dense": [gd.Dense(4, 3)],
    "Dense without bias": [gd.Dense(4, 3, bias=False)],
    "Dense wide": [gd.Dense(4, 17)],
    "LayerNorm": [gd.LayerNorm(4)],
    "LayerNorm plain": [gd.LayerNorm(4, affine=False)],
    "LayerNorm eps": [gd.LayerNorm(4, 0.5)],
    "BatchNorm": [gd.BatchNorm(4)],
    "BatchNorm variance": [gd.BatchNorm(4, running="variance")],
    "BatchNorm plain": [gd.BatchNorm(4, affine=False)],
    "BatchNorm eps": [gd.BatchNorm(4, eps=0.5)],
    "Scale": [gd.Scale(4)],
    "Scale in between": [gd.Dense(4, 3), gd.Tanh(), gd.Scale(3), gd.GELU(), gd.Scale(3), gd.Dense(3, 2)],
    **{repr(a): [gd.Dense(4, 4), a] for a in helpers.ACTIVATIONS},
    **{f"LayerNorm {a!r}": [gd.LayerNorm(4), a] for a in helpers.ACTIVATIONS},
    **{f"BatchNorm {a!r}": [gd.BatchNorm(4), a] for a in helpers.ACTIVATIONS},
    "deep": [gd.Dense(4, 5), gd.BatchNorm(5), gd.GELU(), gd.Dense(5, 3), gd.LayerNorm(3), gd.Tanh(), gd.Dense(3, 2)],
    "norm after activation": [gd.Dense(4, 5), gd.Softplus(), gd.BatchNorm(5), gd.Dense(5, 2), gd.Sigmoid()],
    "two activations": [gd.Dense(4, 3), gd.Tanh(), gd.Softplus(), gd.Sigmoid()],
    "activation first": [gd.GELU(), gd.Dense(4, 2)],
    "PiecewiseLinear": [gd.PiecewiseLinear([[-1.0, 0.0, 0.5, 2.0], [-0.3, 0.7]], columns=[2, 0]), gd.Dense(6, 3)],
    "PiecewiseLinear clip": [gd.PiecewiseLinear([[-1.0, 0.5, 0.75]] * 4, clip=True), gd.Dense(8, 3)],
    "Periodic": [gd.Periodic(columns=[3, 1], frequencies=3, dim=3), gd.Dense(8, 2)],
    "Periodic all": [gd.Periodic(4, frequencies=9, dim=7), gd.Dense(28, 2)],
    "Periodic plr": [gd.Periodic(columns=[2], frequencies=2, dim=5, kind="plr"), gd.Dense(8, 2)],
    "Residual": [gd.Residual(gd.Dense(4, 5), gd.Tanh(), gd.Dense(5, 4)), gd.Dense(4, 2)],
    "Residual last": [gd.Dense(4, 3), gd.Residual(gd.LayerNorm(3), gd.Dense(3, 3), gd.GELU())],
    "Residuals": [
        gd.Dense(4, 3),
        gd.Residual(gd.BatchNorm(3), gd.Residual(gd.Dense(3, 2), gd.Softplus(), gd.Dense(2, 3)), gd.Tanh()),
        gd.Residual(gd.Tanh()),
        gd.Sigmoid(),
    ],
}


def away_from_kinks(model: Any, layers: list[Any], rng: Any, rows: int) -> np.ndarray:
    """An input for which no ReLU is within 0.01 of its kink (checked with the oracle's activations)."""
    for _ in range(1000):
        x = rng.standard_normal((rows, 4))
        reference = helpers.reference_of(model)
        reference.forward(x)
        kinked = [t[0] for t, layer in zip(reference.tape, layers, strict=True) if "ReLU" in type(layer).__name__]
        if all(np.abs(before).min() > 0.01 for before in kinked):
            return x
    raise AssertionError("no such input found")


def differences(function: Any, variable: np.ndarray) -> np.ndarray:
    """Central differences of a vector-valued function of an array, which is changed in place."""
    columns, flat = [], variable.reshape(-1)
    assert isinstance(variable, gd.DeviceArray) or np.shares_memory(flat, variable)
    for i in range(flat.size):
        value = flat[i]
        flat[i] = value + H
        up = np.array(function())
        flat[i] = value - H
        down = np.array(function())
        flat[i] = value
        columns.append((up - down).ravel() / (2 * H))
    return np.array(columns).T


def agree(analytic: np.ndarray, numeric: np.ndarray) -> None:
    """Demand equality of each element to 1e-6, relative to the element or to a hundredth of the largest one."""
    scale = np.maximum(np.abs(numeric), 1e-2 * np.abs(numeric).max())
    assert (np.abs(analytic - numeric) <= 1e-6 * scale + 1e-10).all()


def losses(rng: Any) -> list[tuple[Any, np.ndarray]]:
    labels, soft = rng.integers(0, 3, 6), rng.dirichlet(np.ones(3), 6)
    return [
        (gd.MeanSquaredError(), rng.standard_normal((6, 3))),
        (gd.CrossEntropy(), labels),
        (gd.CrossEntropy([0.5, 2.0, 1.0], 0.1), labels),
        (gd.CrossEntropy([0.5, 2.0, 1.0], 0.1), soft),
        (gd.BinaryCrossEntropy(), soft),
        (gd.BinaryCrossEntropy([4.0, 1.0, 0.5]), (soft > 0.3).astype(np.float64)),
        (gd.CrossEntropy([0.5, 2.0, 1.0], gamma=2.0), labels),
        (gd.BinaryCrossEntropy(class_weights=[0.5, 2.0, 1.0, 1.5, 3.0, 0.25], gamma=1.5), soft),
        (gd.Huber(0.7), rng.standard_normal((6, 3))),
        (gd.MeanAbsoluteError(), rng.standard_normal((6, 3))),
        (gd.Quantile([0.1, 0.5, 0.9]), rng.standard_normal(6)),
        (gd.Poisson(), rng.poisson(2.0, (6, 3)).astype(np.float64)),
    ]


LOSSES = len(losses(np.random.default_rng(0)))
