"""Sample-wise double descent in linear regression, where the test error is known in closed form (Nakkiran 2019)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.checks import integer, real
from ..model import Sequential
from ..trainer import Trainer
from ..tuning.store import Point
from ._sweep import run_sweep
from ._train import seeds, whole_numbers
from .descent import DoubleDescent

__all__ = ["double_descent_linear", "gradient_descent", "linear_excess_risk"]

Matrix = npt.NDArray[np.float64]

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0)  # default rows / features
MAX_STEPS = 2000  # if gradient descent needs more, only the exact solution is computed
TOLERANCE = 1e-5  # distance to the solution after gradient descent, relative to the start
ZERO = 1e-9  # training errors up to this are rounding


@explained
def linear_excess_risk(samples: int, features: int, *, noise: float, norm: float = 1.0) -> float:
    """Return the expected excess risk E‖w - β‖² of the least-squares solution of smallest norm.

    For rows that are Gaussian with unit covariance and targets y = xᵀβ + noise; gradient descent from zero converges to
    this solution. (1 - n/d) ‖β‖² + σ² n/(d-n-1) for n < d-1, σ² d/(n-d-1) for n > d+1. Between, from n = d-1 to d+1, it
    is infinite; without noise it is (1 - n/d) ‖β‖² for n < d, and 0 from n = d on.

    Parameters
    ----------
    samples, features : int
        n and d, at least 1.
    noise, norm : float
        σ and ‖β‖, at least 0.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Notes
    -----
    Nakkiran 2019, "More data can hurt for linear regression"; the noise terms are the mean traces of inverse Wishart
    matrices.
    """
    n, d = integer(samples, "samples", minimum=1), integer(features, "features", minimum=1)
    variance = real(noise, "noise", low=0) ** 2
    size = real(norm, "norm", low=0) ** 2
    if abs(n - d) <= 1:
        return math.inf if variance else max(1 - n / d, 0.0) * size
    return (1 - n / d) * size + variance * n / (d - n - 1) if n < d else variance * d / (n - d - 1)


@explained
def double_descent_linear(
    *,
    samples: Iterable[int] | None = None,
    features: int = 1000,
    noise: float = 0.1,
    repeats: int = 1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    within: str | None = None,
    executor: Any = None,
    progress: bool = True,
) -> DoubleDescent:
    """Solve linear regression on more and more rows: test error peaks where rows equal features (slides 55-56).

    Rows are Gaussian with unit covariance, targets a random linear function of norm 1 plus noise. Each problem is
    solved exactly, for the solution of smallest norm, to which gradient descent from zero converges; and also
    by real gradient descent, without or with momentum, where that takes at most 2,000 steps.

    Parameters
    ----------
    samples : iterable of int, optional
        Numbers of training rows; 15 from 0.1 to 2 times `features` when left out.
    features : int
        Columns, at least 2.
    noise : float
        Standard deviation of the noise in the targets.
    repeats : int
        Problems for each number of rows, with the seeds seed, seed + 1, ...: of rows, function and noise.
    seed : int
        Seed of the first.
    folder, progress
        As for `double_descent`.
    n_jobs, within, executor
        As for `double_descent`. The results do not depend on it where threadpoolctl is installed (part of
        ``gdcore[experiments]``), and differ by rounding otherwise; see `run_sweep`.

    Returns
    -------
    DoubleDescent
        Table, curve, interpolation threshold (the largest number of rows that is fitted), and the figure. The test
        error is the excess risk ‖w - β‖²; the column ``theory`` is its expectation, `linear_excess_risk`, and where
        gradient descent was run there are ``method``, ``steps`` and ``gradient_descent_risk``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or `folder` holds a sweep of other settings.
    ImportError
        If processes are wanted and joblib is not installed.

    Notes
    -----
    Nakkiran 2019, "More data can hurt for linear regression".
    """
    features, noise = integer(features, "features", minimum=2), real(noise, "noise", low=0)
    sizes = whole_numbers([round(share * features) or 1 for share in SHARES] if samples is None else samples, "samples")
    common = {"features": features, "noise": noise}
    points = [{"samples": n, **common, "seed": s} for s in seeds(seed, repeats) for n in sizes]
    settings = {"problem": "linear regression", "max_steps": MAX_STEPS, "tolerance": TOLERANCE}
    where = {"n_jobs": n_jobs, "within": within, "executor": executor, "progress": progress}
    sweep = run_sweep(points, solve_linear, settings=settings, folder=folder, **where)
    measure = "excess risk ‖w - β‖²"
    return DoubleDescent("samples", "train_error", "test_error", measure, sweep.table, ZERO, sweep.cpu_seconds)


def solve_linear(point: Point) -> list[dict[str, Any]]:
    """Return the row of one problem: the errors of the exact solution, and of gradient descent if it is fast enough."""
    n, d = point["samples"], point["features"]
    rng = np.random.default_rng((point["seed"], n))
    direction = rng.standard_normal(d)
    beta = direction / np.linalg.norm(direction)
    x = rng.standard_normal((n, d))
    y = x @ beta + point["noise"] * rng.standard_normal(n)
    w, eigenvalues = minimum_norm(x, y)
    row: dict[str, Any] = {
        "samples": n,
        "features": d,
        "seed": point["seed"],
        "train_error": float(np.mean((x @ w - y) ** 2)),
        "test_error": float(np.sum((w - beta) ** 2)),
        "theory": linear_excess_risk(n, d, noise=point["noise"]),
        "condition": float(eigenvalues[-1] / eigenvalues[0]),
        "method": "exact",
    }
    method, optimizer, steps = _plan(eigenvalues)
    if optimizer is not None:
        (descended,) = gradient_descent(x, y, optimizer, [steps])
        risk = float(np.sum((descended - beta) ** 2))
        row |= {"method": method, "steps": steps, "gradient_descent_risk": risk}
    return [row]


def minimum_norm(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Return the least-squares solution of smallest norm (d,), and the Hessian's eigenvalues above 0, ascending.

    From the eigenvectors of the smaller of X Xᵀ and Xᵀ X. The Hessian is that of the mean of squares, 2 Xᵀ X / n.
    """
    n, d = x.shape
    values, vectors = np.linalg.eigh(x @ x.T if n <= d else x.T @ x)
    keep = values > values[-1] * max(n, d) * np.finfo(float).eps
    values, vectors = values[keep], vectors[:, keep]
    w = x.T @ (vectors @ (vectors.T @ y / values)) if n <= d else vectors @ (vectors.T @ (x.T @ y) / values)
    return w, 2 * values / n


def _plan(eigenvalues: Matrix) -> tuple[str, _core.Optimizer | None, int]:
    """Return the method that reaches the tolerance within the steps allowed: gradient descent, momentum, or neither.

    At its best rate each step shrinks the distance by (κ-1)/(κ+1), by (√κ-1)/(√κ+1) with the best momentum (chapter,
    slides 23-26), the latter with a transient factor that grows like the number of steps.
    """
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    root = math.sqrt(high / low)
    steps = _steps((high - low) / (high + low))
    if steps <= MAX_STEPS:
        return "gradient descent", _core.SGD(lr=2 / (low + high)), steps
    steps = math.ceil(1.5 * _steps((root - 1) / (root + 1)))
    if steps <= MAX_STEPS:
        lr = 4 / (math.sqrt(low) + math.sqrt(high)) ** 2
        return "with momentum", _core.Momentum(lr=lr, momentum=((root - 1) / (root + 1)) ** 2), steps
    return "exact", None, 0


def _steps(factor: float) -> int:
    """Return the steps after which a distance that shrinks by `factor` a step is within the tolerance."""
    return 1 if factor <= TOLERANCE else math.ceil(math.log(TOLERANCE) / math.log(factor))


def gradient_descent(x: Matrix, y: Matrix, optimizer: _core.Optimizer, at: Iterable[int]) -> Iterator[Matrix]:
    """Yield the weights (d,) after each of the numbers of steps `at`, ascending, of batch gradient descent from zero.

    On the mean of squares, without a bias; x has shape (n, d), y (n,).
    """
    model = Sequential(_core.Dense(x.shape[1], 1, bias=False), seed=0, dtype="float64", device="cpu")
    weight = model.parameters()["layers.0.weight"]
    weight[...] = 0.0
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=optimizer)
    for step in at:
        trainer.fit(x, y, until_epoch=step, batch_size=None, shuffle=False)
        yield np.array(weight[0])
