"""Gradient, Hessian, Hessian-vector products and extreme eigenvalues of the loss at a point (chapter, slides 3-7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import choice, integer, real
from ..model import Sequential
from ._lanczos import extreme_pairs, pick
from .objective import Mode, Objective, Vector, as_objective, point_at

__all__ = ["Eigenpairs", "eigenvalues", "gradient", "hessian", "hvp"]

MEMORY_LIMIT = 2**30  # default limit for a Hessian, bytes
DIRECT = 64  # parameters up to which eigenvalues come from the full Hessian


@explained
def gradient(
    model: Sequential,
    loss: _core.Loss,
    x: Data,
    y: Data,
    *,
    mode: Mode = "training",
    sample_weight: Data | None = None,
) -> Vector:
    """Return the gradient of the mean loss with respect to all parameters, as one vector.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`, which also describes the order of the parameters and the errors raised.

    Returns
    -------
    ndarray
        ∇E, shape (P,), float64.
    """
    return Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight).gradient()


@explained
def hvp(
    model: Sequential,
    loss: _core.Loss,
    x: Data,
    y: Data,
    v: npt.ArrayLike,
    *,
    mode: Mode = "training",
    sample_weight: Data | None = None,
) -> Vector:
    """Return the product of the Hessian with a vector, exactly and without the Hessian (Pearlmutter 1994).

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`.
    v : array
        Shape (P,).

    Returns
    -------
    ndarray
        H v, shape (P,), float64.

    Raises
    ------
    ValueError
        If `v` has another length or holds NaN or infinity; and as for `Objective`.
    """
    return Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight).hvp(v)


@explained
def hessian(
    model: Sequential | Objective,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Vector:
    """Return the Hessian of the mean loss with respect to all parameters.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`; or an `Objective` alone, such as one with weight decay.
    memory_limit : int
        The largest size allowed, in bytes; the Hessian takes 8 P².

    Returns
    -------
    ndarray
        H, shape (P, P), float64, symmetric: the mean of the matrix of P Hessian-vector products and its transpose.

    Raises
    ------
    ValueError
        If it would be larger than `memory_limit`; and as for `Objective`.
    """
    return dense_hessian(
        as_objective(model, loss, x, y, mode=mode, sample_weight=sample_weight), memory_limit=memory_limit
    )


def dense_hessian(objective: Objective, w: npt.ArrayLike | None = None, *, memory_limit: int = MEMORY_LIMIT) -> Vector:
    """Return the Hessian (P, P) of an objective at `w`, default the model's parameters; see `hessian`."""
    integer(memory_limit, "memory_limit", minimum=1, expected="a number of bytes")
    size = objective.size
    if 8 * size * size > memory_limit:
        raise ValueError(
            f"model: its Hessian of {size} x {size} numbers needs {8 * size * size:,} bytes; expected at most "
            f"memory_limit = {memory_limit:,}; use hvp or eigenvalues, which do not compute it, freeze layers, or "
            "increase memory_limit"
        )
    point = point_at(objective, w)
    rows = np.empty((size, size))
    unit = np.zeros(size)
    for i in range(size):
        unit[i] = 1.0
        rows[i] = objective.product(unit, point)
        unit[i] = 0.0
    for i in range(size):  # in place, because a second P x P array may not fit
        mean = 0.5 * rows[i, i:] + 0.5 * rows[i:, i]
        rows[i, i:] = mean
        rows[i:, i] = mean
    return rows


class Eigenpairs(NamedTuple):
    """Eigenvalues in ascending order, shape (k,), and their eigenvectors in the columns of an array (P, k)."""

    values: Vector
    vectors: Vector

    def __repr__(self) -> str:
        """Return the eigenvalues, of many the first and the last, and the size of the eigenvectors."""
        listed = [f"{value:.6g}" for value in self.values.tolist()]
        listed = listed if len(listed) <= 10 else [*listed[:5], "...", *listed[-5:]]
        return f"Eigenpairs(values: {', '.join(listed)}; vectors: {len(self.vectors)} x {len(self.values)})"


@explained
def eigenvalues(
    model: Sequential | Objective,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    k: int | None = None,
    which: str = "largest",
    mode: Mode = "training",
    sample_weight: Data | None = None,
    tolerance: float = 1e-8,
    seed: int = 0,
) -> Eigenpairs:
    """Return extreme eigenvalues of the Hessian and their eigenvectors, by Lanczos iteration over `hvp`.

    A repeated eigenvalue is returned with its multiplicity, up to `k` values in total. With more than 64 parameters and
    `k` below a third of them, the Hessian is not formed, so models may have a million parameters.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`; or an `Objective` alone, such as one with weight decay.
    k : int, optional
        Number of eigenvalues, at most P; 6 by default, or P if that is less.
    which : {"largest", "smallest", "magnitude", "both"}
        The algebraically largest, the smallest (most negative), the largest in magnitude, or half of each end.
    tolerance : float
        Accuracy at which the iteration stops: the residual ‖H u - λ u‖ of each pair, relative to the largest |λ|.
        Errors of the values are at most about as large; errors of the vectors are this divided by the distance to the
        next eigenvalue. Eigenvalues that differ by less count as one repeated eigenvalue.
    seed : int
        Seed of the start vectors; the same seed gives the same result.

    Returns
    -------
    Eigenpairs
        ``values`` (k,) ascending, ``vectors`` (P, k) of length 1.

    Raises
    ------
    ValueError
        If `k` is larger than P, `which` is unknown, or `tolerance` is not reached; and as for `Objective`.

    Notes
    -----
    A Krylov space holds one eigenvector of a repeated eigenvalue. So further spaces are searched, each orthogonal to
    the eigenvectors found, until one shows that none of the k eigenvalues is missing; the probability of an error is
    about 1e-6. For the outermost eigenvalue alone (``k=1``), one space is enough.
    """
    objective = as_objective(model, loss, x, y, mode=mode, sample_weight=sample_weight)
    return extreme_eigenpairs(objective, k=k, which=which, tolerance=tolerance, seed=seed)


def extreme_eigenpairs(
    objective: Objective,
    w: npt.ArrayLike | None = None,
    *,
    k: int | None = None,
    which: str = "largest",
    tolerance: float = 1e-8,
    seed: int = 0,
) -> Eigenpairs:
    """Return extreme eigenpairs of an objective's Hessian at `w`, default the model's parameters; see `eigenvalues`."""
    choice(which, "which", ("largest", "smallest", "magnitude", "both"))
    size = objective.size
    k = min(6, size) if k is None else integer(k, "k", minimum=1)
    real(tolerance, "tolerance", low=0.0, high=1.0)
    integer(seed, "seed")
    if k > size:
        raise ValueError(f"k: got {k}; expected at most {size}, the number of trainable parameters")
    if size <= max(DIRECT, 3 * k):  # faster directly for few parameters; for many pairs it takes no more memory
        matrix = dense_hessian(objective, w, memory_limit=8 * size * size)
        values, vectors = np.linalg.eigh(matrix)
        at = pick(values, k, which)
        return Eigenpairs(values[at], vectors[:, at])
    point = point_at(objective, w)

    def product(v: Vector) -> Vector:
        return objective.product(v, point)

    return Eigenpairs(*extreme_pairs(product, size, k, which, tolerance, seed))
