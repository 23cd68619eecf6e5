"""Gradient, Hessian, Hessian-vector products and extreme eigenvalues of the loss at a point (chapter, slides 3-7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arrays import Data
from .._checks import choice, integer, optional_module, real
from ..model import Sequential
from .objective import Mode, Objective, Vector, place

__all__ = ["Eigenpairs", "eigenvalues", "gradient", "hessian", "hvp"]

MEMORY_LIMIT = 2**30  # bytes of a Hessian, unless the caller allows more
KRYLOV = 60  # vectors that Lanczos keeps at least; the more, the fewer products

Product: TypeAlias = Callable[[Vector], Vector]


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
        If `v` has another length or holds NaN or infinity; and what `Objective` raises.
    """
    return Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight).hvp(v)


def hessian(
    model: Sequential,
    loss: _core.Loss,
    x: Data,
    y: Data,
    *,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Vector:
    """Return the Hessian of the mean loss with respect to all parameters.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`.
    memory_limit : int
        The most bytes it may take: 8 P².

    Returns
    -------
    ndarray
        H, shape (P, P), float64, symmetric: the mean of what P products give and its transpose.

    Raises
    ------
    ValueError
        If it would be larger than `memory_limit`; and what `Objective` raises.
    """
    return dense_hessian(
        Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight), memory_limit=memory_limit
    )


def dense_hessian(objective: Objective, w: npt.ArrayLike | None = None, *, memory_limit: int = MEMORY_LIMIT) -> Vector:
    """Return the Hessian (P, P) of an objective at `w`, or where the model is; see `hessian`."""
    integer(memory_limit, "memory_limit", minimum=1, expected="a number of bytes")
    size = objective.size
    if 8 * size * size > memory_limit:
        raise ValueError(
            f"model: its Hessian of {size} x {size} numbers takes {8 * size * size:,} bytes, more than memory_limit = "
            f"{memory_limit:,}; use hvp or eigenvalues, which need no Hessian, freeze layers, or raise memory_limit"
        )
    point = place(objective, w)
    rows = np.empty((size, size))
    unit = np.zeros(size)
    for i in range(size):
        unit[i] = 1.0
        rows[i] = objective.core.product(unit, point)
        unit[i] = 0.0
    for i in range(size):  # in place, for another P x P may not fit
        mean = 0.5 * (rows[i, i:] + rows[i:, i])
        rows[i, i:] = mean
        rows[i:, i] = mean
    return rows


class NotConverged(ValueError):
    """Lanczos iteration that did not reach its tolerance."""


class Eigenpairs(NamedTuple):
    """Eigenvalues in ascending order, shape (k,), and their eigenvectors in the columns of an array (P, k)."""

    values: Vector
    vectors: Vector


def eigenvalues(
    model: Sequential,
    loss: _core.Loss,
    x: Data,
    y: Data,
    *,
    k: int = 6,
    which: str = "largest",
    mode: Mode = "training",
    sample_weight: Data | None = None,
    tolerance: float = 1e-8,
    seed: int = 0,
) -> Eigenpairs:
    """Return extreme eigenvalues of the Hessian and their eigenvectors, by Lanczos iteration over `hvp`.

    The Hessian is never formed, so models of a million parameters are no problem.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`.
    k : int
        How many, at most P.
    which : {"largest", "smallest", "magnitude", "both"}
        The algebraically largest, the smallest (most negative), the largest in magnitude, or half of each end.
    tolerance : float
        Accuracy at which the iteration stops, relative to the largest eigenvalues for either end.
    seed : int
        Of the vector it starts from, so that the result is the same every time.

    Returns
    -------
    Eigenpairs
        ``values`` (k,) ascending, ``vectors`` (P, k) of length 1.

    Raises
    ------
    ValueError
        If `k` is larger than P, `which` is none of the four, or `tolerance` is not reached; and what `Objective`
        raises.
    ImportError
        If SciPy is not installed.
    """
    objective = Objective(model, loss, x, y, mode=mode, sample_weight=sample_weight)
    return extreme_eigenpairs(objective, k=k, which=which, tolerance=tolerance, seed=seed)


def extreme_eigenpairs(
    objective: Objective,
    w: npt.ArrayLike | None = None,
    *,
    k: int = 6,
    which: str = "largest",
    tolerance: float = 1e-8,
    seed: int = 0,
    diagonal: Vector | float = 0.0,
) -> Eigenpairs:
    """Return extreme eigenpairs of an objective's Hessian at `w`, or where the model is; see `eigenvalues`.

    `diagonal`, one number or (P,), is added to the Hessian's diagonal: weight decay.
    """
    choice(which, "which", ("largest", "smallest", "magnitude", "both"))
    integer(k, "k", minimum=1)
    real(tolerance, "tolerance", low=0.0)
    size = objective.size
    if k > size:
        raise ValueError(f"k: got {k}; expected at most {size}, the number of parameters that train")
    if k >= size - 1 or size <= 64:  # Lanczos needs room; so few are quicker found directly
        values, vectors = np.linalg.eigh(dense_hessian(objective, w) + np.diag(np.full(size, diagonal)))
        pick = _pick(values, k, which)
        return Eigenpairs(values[pick], vectors[:, pick])
    point = place(objective, w)

    def product(v: Vector) -> Vector:
        return np.asarray(objective.hvp(v, point) + diagonal * v)

    if which == "magnitude":
        return _lanczos(product, size, k, "LM", tolerance, seed)
    low = _from_below(k, which)
    parts = [] if low == k else [_lanczos(product, size, k - low, "LA", tolerance, seed)]
    if low:
        # Over c - H with c about λ_max, for the tolerance is then relative to λ_max; over H it would be relative to an
        # eigenvalue that may be next to nothing, and never be reached.
        top = parts[0] if parts else _lanczos(product, size, 1, "LM", 1e-2, seed)
        shift = abs(float(top.values[-1]))
        found = _lanczos(lambda v: shift * v - product(v), size, low, "LA", tolerance, seed)
        parts.insert(0, Eigenpairs(shift - found.values[::-1], found.vectors[:, ::-1]))
    return Eigenpairs(np.concatenate([p.values for p in parts]), np.concatenate([p.vectors for p in parts], axis=1))


def _lanczos(product: Product, size: int, k: int, which: str, tolerance: float, seed: int) -> Eigenpairs:
    """Return `k` eigenpairs of a symmetric operator, ascending."""
    sparse = optional_module("scipy.sparse.linalg", "eigenvalues", "gdcore[analysis]")
    operator = sparse.LinearOperator((size, size), matvec=lambda v: product(v.ravel()), dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    kept = min(size, max(2 * k + 1, KRYLOV))
    try:
        values, vectors = sparse.eigsh(operator, k=k, which=which, tol=tolerance, ncv=kept, maxiter=100, v0=start)
    except sparse.ArpackNoConvergence as error:
        raise NotConverged(
            f"tolerance: got {tolerance:g}, which Lanczos iteration did not reach for {k} eigenvalues in 100 restarts "
            f"with {kept} vectors; expected a larger one"
        ) from error
    order = np.argsort(values)
    return Eigenpairs(values[order], vectors[:, order])


def _from_below(k: int, which: str) -> int:
    """Return how many of `k` eigenvalues are taken from the lower end."""
    return {"largest": 0, "smallest": k, "both": k // 2}[which]


def _pick(values: Vector, k: int, which: str) -> npt.NDArray[np.int64]:
    """Return the positions of `k` of the ascending `values`, ascending."""
    n = len(values)
    if which == "magnitude":
        return np.sort(np.argsort(-np.abs(values), kind="stable")[:k])
    low = _from_below(k, which)
    return np.concatenate([np.arange(low), np.arange(n - (k - low), n)])
