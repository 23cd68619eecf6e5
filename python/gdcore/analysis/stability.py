"""Stability of training near a point, computed from the curvature there (chapter, slides 25-27 and 43)."""

from __future__ import annotations

import warnings
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
from .objective import Mode, Objective, Vector, as_objective, finite_array, point_at
from .quadratic import QuadraticModel, as_quadratic, rounding

__all__ = ["condition_number", "effective_lr", "effective_parameters", "max_stable_lr", "warn_of_rounding"]

CLASSIFICATION = (_core.CrossEntropy, _core.BinaryCrossEntropy)
DENSE = 2000  # parameters up to which the full Hessian is used: fast, and exact for the smallest eigenvalues
HARDLY_CURVED = 1e10  # condition number above which the smallest eigenvalue is warned of
RESOLUTION = 1e-7  # accuracy of Lanczos for the smallest eigenvalue, relative to the largest


@explained
def condition_number(
    model: Sequential | Objective | QuadraticModel,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
) -> float:
    """Return the condition number λ_max/λ_min of the Hessian, which limits the rate of gradient descent (slide 25).

    It is defined at a minimum without flat directions. Networks with ReLU units have none: a factor on the weights into
    a unit is undone by its inverse on those out of it. docs/analysis.md has an example of what to measure there.
    Computed from the full Hessian for up to 2,000 parameters, and by Lanczos iteration over `hvp` for more.

    Parameters
    ----------
    model : Sequential, Objective or QuadraticModel
        A model in float64, together with `loss`, `x` and `y`; or an objective or a quadratic model alone.
    loss, x, y, at, mode, sample_weight
        As for `QuadraticModel`.

    Returns
    -------
    float
        At least 1.

    Warns
    -----
    RuntimeWarning
        If it is above 1e10: the smallest eigenvalue is then hardly larger than the rounding of the largest. The loss of
        classes that can be separated has no minimum: its weights grow without end, and the curvature goes to 0.

    Raises
    ------
    ValueError
        If the Hessian is not positive definite beyond rounding; the message gives the smallest eigenvalue. For more
        than 2,000 parameters, if the smallest is below 1e-6 of the largest, too small for Lanczos. And as for
        `Objective`.
    TypeError
        If a QuadraticModel is given together with other data; and as for `Objective`.
    """
    objective: Objective | None
    if isinstance(model, QuadraticModel):
        values = as_quadratic(model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight).eigenvalues
        objective = model.objective
    else:
        objective, point = _given(model, loss, x, y, at, mode, sample_weight)
        if objective.size > DENSE:
            values = _extremes(objective, point)
        else:
            values = np.asarray(np.linalg.eigvalsh(dense_hessian(objective, point)), dtype=np.float64)
    if values[0] <= rounding(values):
        whole = "model, loss, x, y" if isinstance(model, Sequential) else "objective"
        raise ValueError(
            f"model: its Hessian has eigenvalues from {values[0]:.3g} to {values[-1]:.3g}; expected only positive "
            "ones, as the condition number is defined at a minimum without flat directions: train on to one; with "
            f"ReLU units no minimum is without, there compare the eigenvalues of QuadraticModel({whole})"
        )
    warn_of_rounding(values, objective)
    return float(values[-1] / values[0])


def warn_of_rounding(eigenvalues: Vector, objective: Objective | None) -> None:
    """Warn, four calls up, if the smallest of the eigenvalues of one sign is hardly larger than rounding."""
    least, most = sorted(abs(float(eigenvalues[i])) for i in (0, -1))
    if most <= HARDLY_CURVED * least:
        return
    warnings.warn(
        f"the smallest eigenvalue of the Hessian, {least:.3g}, is hardly above the rounding of the largest, "
        f"{most:.3g}: its direction may be flat{_endless(objective)}",
        RuntimeWarning,
        stacklevel=4,
    )


def _endless(objective: Objective | None) -> str:
    """Return why there may be no minimum: the loss of classes, without weight decay."""
    if objective is None or not isinstance(objective.loss, CLASSIFICATION) or objective.decay.any():
        return ""
    return (
        f", and the point no minimum. Without weight decay {type(objective.loss).__name__} has none where the network "
        "separates the classes: the weights grow without end. analysis.Objective(model, loss, x, y, weight_decay=...) "
        "has one"
    )


@explained
def max_stable_lr(
    model: Sequential | Objective | QuadraticModel,
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

    With momentum μ (heavy ball, ``gd.Momentum(lr, μ)``) it is 2(1+μ)/λ_max: the roots of z² - (1+μ-ηλ)z + μ, the
    factors of a step, lie inside the unit circle for 0 < ηλ < 2(1+μ). Computed by Lanczos iteration over `hvp`, so
    models may have a million parameters.

    Parameters
    ----------
    model : Sequential, Objective or QuadraticModel
        A model in float64, together with `loss`, `x` and `y`; or an objective or a quadratic model alone.
    loss, x, y, at, mode, sample_weight
        As for `QuadraticModel`.
    momentum : float
        μ, at least 0 and below 1.

    Returns
    -------
    float
        The rate at which the direction of largest curvature neither grows nor shrinks, for full-batch steps on the
        local quadratic model. Valid where that model is accurate; see `QuadraticModel.quality`.

    Raises
    ------
    ValueError
        If no eigenvalue of the Hessian is positive, or `momentum` is out of range; and as for `Objective`.
    TypeError
        If a QuadraticModel is given together with other data; and as for `Objective`.
    """
    mu = momentum_below_one(momentum)
    if isinstance(model, QuadraticModel):
        values = as_quadratic(model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight).eigenvalues
    else:
        objective, point = _given(model, loss, x, y, at, mode, sample_weight)
        values = extreme_eigenpairs(objective, point, k=1).values
    if values[-1] <= 0:
        raise ValueError(
            f"model: the largest eigenvalue of its Hessian is {values[-1]:.3g}; expected a positive one, as "
            "the condition for stability is η < 2 / λ_max"
        )
    return float(2.0 * (1.0 + mu) / values[-1])


@explained
def effective_lr(lr: float, momentum: float) -> float:
    """Return η/(1-μ), the effective rate of momentum along a constant gradient, after many steps (slide 27).

    Parameters
    ----------
    lr : float
        η, above 0.
    momentum : float
        μ, at least 0 and below 1.

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If it is out of range.
    """
    return real(lr, "lr", low=0.0, open_low=True) / (1.0 - momentum_below_one(momentum))


@explained
def effective_parameters(
    model: Sequential | Objective | QuadraticModel,
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

    A direction with much more curvature from the data than from the decay (λ_i ≫ λ) counts 1, one dominated by the
    decay counts 0. The result is most meaningful at a minimum of E + (λ/2) wᵀw, with equal decay of all parameters;
    freeze those without it. The λ_i are the eigenvalues of the Hessian of E alone: an `Objective` or a quadratic model
    with weight decay of its own is refused, as its eigenvalues are λ_i + λ.

    Parameters
    ----------
    model : Sequential, Objective or QuadraticModel
        A model in float64, together with `loss`, `x` and `y`; or an objective or a quadratic model alone.
    loss, x, y, at, mode, sample_weight, memory_limit
        As for `QuadraticModel`.
    weight_decay : float or array
        λ, at least 0: one value or an array.

    Returns
    -------
    float or ndarray
        Between 0 and P, in the shape of `weight_decay`. For λ = 0, the number of positive eigenvalues.

    Raises
    ------
    ValueError
        If an eigenvalue has λ_i + λ ≤ 0: the error with decay has no minimum there. Other negative eigenvalues count
        0, because the data do not determine the parameters in these directions. Also if `weight_decay` is negative or
        not finite, or `model` includes weight decay; and as for `QuadraticModel`.
    TypeError
        If `weight_decay` is not numeric; and as for `QuadraticModel`.
    """
    decay = np.asarray(to_array(weight_decay, "weight_decay"), dtype=np.float64)
    finite_array(decay, "weight_decay")
    if not decay.size or decay.min() < 0:
        raise ValueError(
            f"weight_decay: got {decay.min() if decay.size else 'no numbers'}; expected numbers of at least 0"
        )
    quadratic = as_quadratic(
        model, loss, x, y, at=at, mode=mode, sample_weight=sample_weight, memory_limit=memory_limit
    )
    if quadratic.includes_decay:
        raise ValueError("model: its E includes weight decay; expected E alone, as weight_decay says what to add to it")
    values = quadratic.eigenvalues
    if values[0] < -rounding(values) and decay.min() <= -values[0]:
        raise ValueError(
            f"weight_decay: got {decay.min():.3g} where the smallest eigenvalue is {values[0]:.3g}; expected more than "
            f"{-values[0]:.3g}, so that the error with the decay has a minimum there"
        )
    kept = values[values > rounding(values)]
    counts = np.sum(kept / (kept + decay[..., None]), axis=-1)
    return float(counts) if counts.ndim == 0 else np.asarray(counts)


def momentum_below_one(value: object) -> float:
    """Return a momentum μ in [0, 1); raise TypeError or ValueError otherwise."""
    momentum = real(value, "momentum", low=0.0)
    if momentum >= 1.0:
        raise ValueError(f"momentum: got {momentum:g}; expected a number of at least 0 and below 1")
    return momentum


def _given(model: Any, loss: Any, x: Any, y: Any, at: Any, mode: Mode, sample_weight: Any) -> tuple[Objective, Vector]:
    """Return the objective and the point from the arguments of a call."""
    objective = as_objective(model, loss, x, y, mode=mode, sample_weight=sample_weight)
    return objective, point_at(objective, at)


def _extremes(objective: Objective, point: Vector) -> Vector:
    """Return the smallest and the largest eigenvalue by Lanczos, to `RESOLUTION` times the largest."""
    try:
        values = extreme_eigenpairs(objective, point, k=2, which="both", tolerance=RESOLUTION).values
    except NotConverged:
        values = extreme_eigenpairs(objective, point, k=1).values * (0.0, 1.0)
    if abs(values[0]) <= 10 * RESOLUTION * values[1]:
        raise ValueError(
            "model: the smallest eigenvalue of its Hessian cannot be distinguished from 0 by Lanczos iteration, "
            f"relative to the largest, {values[1]:.3g}; condition_number(QuadraticModel(...)) finds it from the full "
            "Hessian"
        )
    return values
