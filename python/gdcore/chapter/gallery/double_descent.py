"""Pictures of double descent, in small problems that take seconds: width, epochs, training rows (slides 52-56)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ... import _core
from ...experiments import double_descent_epochs, double_descent_linear, double_descent_width

__all__ = ["double_descent_by_epochs", "double_descent_by_samples", "double_descent_by_width"]

PathLike = str | os.PathLike[str]


def clusters(rows: int) -> tuple[Any, Any]:
    """Return points (rows, 20) of 5 Gaussian clusters with centres at distance 3 from the origin, and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 20))
    centres *= 3 / np.linalg.norm(centres, axis=1, keepdims=True)
    labels = rng.integers(0, 5, rows)
    return (centres[labels] + rng.standard_normal((rows, 20))).astype(np.float32), labels


def double_descent_by_width(path: PathLike) -> None:
    """Draw test error against width: a peak where the training rows are just fitted (slides 52-53)."""
    x, y = clusters(2400)
    double_descent_width(
        x[:400],
        y[:400],
        test=(x[400:], y[400:]),
        build=lambda width: [_core.Dense(20, width), _core.ReLU(), _core.Dense(width, 5)],
        widths=(1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 64, 128, 256, 512),
        optimizer=_core.Momentum(lr=0.02, momentum=0.9),
        batch_size=50,
        label_noise=0.2,
        repeats=5,
        progress=False,
    ).plot(path)


SCALES = (1.0, 0.3, 0.05)  # strong features with half of the signal, medium ones without, weak ones with the rest
FEATURES = (10, 150, 20)


def two_speeds(rows: int) -> tuple[Any, Any]:
    """Return features (rows, 180) of three scales, and labels that depend on the strong and on the weak ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, sum(FEATURES)))
    strong, weak = (rng.standard_normal(size) for size in (FEATURES[0], FEATURES[2]))
    score = x[:, : len(strong)] @ strong / np.linalg.norm(strong) + x[:, -len(weak) :] @ weak / np.linalg.norm(weak)
    return (x * np.repeat(SCALES, FEATURES)).astype(np.float32), (score > 0).astype(np.int64)


def double_descent_by_epochs(path: PathLike) -> None:
    """Draw test error against epochs: it falls twice, for strong and for weak features (slide 54)."""
    x, y = two_speeds(4600)
    double_descent_epochs(
        x[:600],
        y[:600],
        test=(x[600:], y[600:]),
        build=lambda width: [_core.Dense(sum(FEATURES), 2, init=_core.Normal(0.1))],
        optimizer=_core.Momentum(lr=0.02, momentum=0.9),
        epochs=10000,
        batch_size=None,
        label_noise=0.2,
        repeats=3,
        progress=False,
    ).plot(path)


def double_descent_by_samples(path: PathLike) -> None:
    """Draw test error against training rows: a peak where there are as many as features (slides 55-56)."""
    double_descent_linear(
        features=100,
        noise=0.3,
        samples=(10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 105, 110, 120, 135, 150, 200, 300),
        repeats=30,
        progress=False,
    ).plot(path)
