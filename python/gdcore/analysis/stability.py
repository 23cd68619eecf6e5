"""What the curvature at a point says about training there (chapter, slides 25-27 and 43)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data, to_array
from ..internal.checks import real
from ..model import Sequential
from ._lanczos import NotConverged
from .derivatives import MEMORY_LIMIT, dense_hessian, extreme_eigenpairs
from .objective import Mode, Objective, Vector, finite_array, place
from .quadratic import QuadraticModel, as_quadratic, rounding

__all__ = ["condition_number", "effective_lr", "effective_parameters", "max_stable_lr"]

DENSE = 2000  # up to so many parameters the full Hessian is quick, and it alone tells the smallest eigenvalues exactly
RESOLUTION = 1e-7  # accuracy of Lanczos for the smallest eigenvalue, relative to the largest


@explained
def condition_number(
    model: Sequential | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
) -> float:
    """Return the condition number λ_max/λ_min of the Hessian, which decides how slow gradient descent is (slide 25).

    Up to 2,000 parameters it comes from the full Hessian, for more from Lanczos iterations over `hvp`.

    Parameters
    ----------
    model : Sequential or QuadraticModel
        A model in float64, with the three that follow; or a quadratic model, and nothing beside it.
    loss, x, y, at, mode, sample_weight
        As for `QuadraticModel`.

    Returns
    -------
    float
        At least 1.

    Raises
    ------
    ValueError
        If the Hessian is not positive definite beyond rounding, for which no condition number tells a rate; says the
        smallest eigenvalue. For more than 2,000 parameters, if it is so much smaller than the largest (1e-6) that
        Lanczos cannot tell. And what `Objective` raises.
    TypeError
        If something stands beside a QuadraticModel; and what `Objective` raises.
    """
    if isinstance(model, QuadraticModel):
        values = as_quadratic(model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight).eigenvalues
    else:
        objective, point = _given(model, loss, x, y, at, mode, sample_weight)
        if objective.size > DENSE:
            values = _extremes(objective, point)
        else:
            values = np.asarray(np.linalg.eigvalsh(dense_hessian(objective, point)), dtype=np.float64)
    if values[0] <= rounding(values):
        raise ValueError(
            f"model: its Hessian has eigenvalues from {values[0]:.3g} to {values[-1]:.3g}; expected all of them to be "
            "positive, as at a minimum, for the condition number to mean anything"
        )
    return float(values[-1] / values[0])


@explained
def max_stable_lr(
    model: Sequential | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    momentum: float = 0.0,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
) -> float:
    """Return the learning rate above which gradient descent diverges near the point: 2/λ_max (slide 25).

    With momentum μ (heavy ball, ``gd.Momentum(lr, μ)``) it is 2(1+μ)/λ_max: the roots of z² - (1+μ-ηλ)z + μ, which the
    step multiplies by, lie inside the unit circle for 0 < ηλ < 2(1+μ). Computed by Lanczos over `hvp`, so models of
    a million parameters are no problem.

    Parameters
    ----------
    model : Sequential or QuadraticModel
        A model in float64, with the three that follow; or a quadratic model, and nothing beside it.
    loss, x, y, at, mode, sample_weight
        As for `QuadraticModel`.
    momentum : float
        μ, at least 0 and below 1.

    Returns
    -------
    float
        The rate at which the steepest direction neither grows nor shrinks, for full-batch steps on the local quadratic
        model: a bound that holds as far as `QuadraticModel.quality` is good.

    Raises
    ------
    ValueError
        If no eigenvalue of the Hessian is positive, or `momentum` is out of range; and what `Objective` raises.
    TypeError
        If something stands beside a QuadraticModel; and what `Objective` raises.
    """
    mu = momentum_below_one(momentum)
    if isinstance(model, QuadraticModel):
        values = as_quadratic(model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight).eigenvalues
    else:
        objective, point = _given(model, loss, x, y, at, mode, sample_weight)
        values = extreme_eigenpairs(objective, point, k=1).values
    if values[-1] <= 0:
        raise ValueError(
            f"model: the largest eigenvalue of its Hessian is {values[-1]:.3g}; expected a positive one, for no rate "
            "is stable where the loss curves upwards in no direction"
        )
    return float(2.0 * (1.0 + mu) / values[-1])


@explained
def effective_lr(lr: float, momentum: float) -> float:
    """Return η/(1-μ), the rate at which momentum moves along a constant gradient in the end (slide 27).

    Parameters
    ----------
    lr : float
        η, above 0.
    momentum : float
        μ, at least 0 and below 1.

    Raises
    ------
    TypeError
        If an argument is no number.
    ValueError
        If it is out of range.
    """
    return real(lr, "lr", low=0.0, open_low=True) / (1.0 - momentum_below_one(momentum))


@explained
def effective_parameters(
    model: Sequential | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    weight_decay: npt.ArrayLike,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> float | Vector:
    """Return the effective number of parameters under weight decay, Σ λ_i/(λ_i+λ) (slide 43).

    A direction in which the data curve E much more than the decay does (λ_i ≫ λ) counts 1, one that the decay decides
    counts 0. It means the most at a minimum of E + (λ/2) wᵀw, with all parameters decayed alike; freeze those that are
    not. The λ_i are those of E alone.

    Parameters
    ----------
    model : Sequential or QuadraticModel
        A model in float64, with the three that follow; or a quadratic model, and nothing beside it.
    loss, x, y, at, mode, sample_weight, memory_limit
        As for `QuadraticModel`.
    weight_decay : float or array
        λ, at least 0, one or many.

    Returns
    -------
    float or ndarray
        Between 0 and P: one number, or an array in the shape of `weight_decay`. At λ = 0 the number of positive
        eigenvalues.

    Raises
    ------
    ValueError
        If an eigenvalue is so negative that λ_i + λ ≤ 0: not even the decayed error has a minimum there. Above that,
        negative ones count 0: the data do not hold the parameters in these directions. Also if `weight_decay` is
        negative or not finite; and what `QuadraticModel` raises.
    TypeError
        If `weight_decay` is no number; and what `QuadraticModel` raises.
    """
    decay = np.asarray(to_array(weight_decay, "weight_decay"), dtype=np.float64)
    finite_array(decay, "weight_decay")
    if not decay.size or decay.min() < 0:
        raise ValueError(
            f"weight_decay: got {decay.min() if decay.size else 'no numbers'}; expected numbers of at least 0"
        )
    values = as_quadratic(
        model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight, memory_limit=memory_limit
    ).eigenvalues
    if values[0] < -rounding(values) and decay.min() <= -values[0]:
        raise ValueError(
            f"weight_decay: got {decay.min():.3g} where the smallest eigenvalue is {values[0]:.3g}; expected more than "
            f"{-values[0]:.3g}, so that the error with the decay has a minimum there"
        )
    held = values[values > rounding(values)]
    counts = np.sum(held / (held + decay[..., None]), axis=-1)
    return float(counts) if counts.ndim == 0 else np.asarray(counts)


def momentum_below_one(value: object) -> float:
    """Return a momentum μ in [0, 1); raise TypeError or ValueError naming it otherwise."""
    momentum = real(value, "momentum", low=0.0)
    if momentum >= 1.0:
        raise ValueError(f"momentum: got {momentum:g}; expected a number of at least 0 and below 1")
    return momentum


def _given(model: Any, loss: Any, x: Any, y: Any, at: Any, mode: Mode, sample_weight: Any) -> tuple[Objective, Vector]:
    """Return the objective and the point that a call was given."""
    objective = Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight)
    return objective, place(objective, at)


def _extremes(objective: Objective, point: Vector) -> Vector:
    """Return the smallest and the largest eigenvalue by Lanczos, to `RESOLUTION` times the largest."""
    try:
        values = extreme_eigenpairs(objective, point, k=2, which="both", tolerance=RESOLUTION).values
    except NotConverged:
        values = extreme_eigenpairs(objective, point, k=1).values * (0.0, 1.0)
    if abs(values[0]) <= 10 * RESOLUTION * values[1]:
        raise ValueError(
            f"model: the smallest eigenvalue of its Hessian cannot be told from 0 by Lanczos beside the largest, "
            f"{values[1]:.3g}; condition_number(QuadraticModel(...)) finds it from the full Hessian"
        )
    return values
