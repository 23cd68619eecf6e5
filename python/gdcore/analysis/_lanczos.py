"""Extreme eigenpairs of a symmetric operator, repeated ones included: Lanczos iteration with deflation.

A Krylov space of any dimension holds only one eigenvector of a repeated eigenvalue. So several spaces are searched, one
after the other, each from another random vector and orthogonal to all eigenvectors found so far, until one shows that
no more extreme eigenvalue is left. ARPACK (`scipy.sparse.linalg.eigsh`) searches one space and stops.

A full space is restarted with its best Ritz vectors (thick restarts: Wu and Simon 2000).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .objective import Vector

__all__ = ["NotConverged", "extreme_pairs", "pick"]

ROOM = 60  # least capacity of a space in vectors; more vectors need fewer products
MEMORY = 2**23  # elements that a space may always hold: the complete basis for up to 2,896 parameters
RESTARTS = 100  # of one space, before the search fails
MISSED = 1e-6  # probability that the space of a random vector does not show a remaining eigenvalue
FINEST = 1e-14  # smallest tolerance, the rounding error of the products

Product: TypeAlias = Callable[[Vector], Vector]


class NotConverged(ValueError):
    """Raised if Lanczos iteration does not reach its tolerance."""


def extreme_pairs(
    product: Product, size: int, k: int, which: str, tolerance: float, seed: int
) -> tuple[Vector, Vector]:
    """Return `k` eigenvalues of a symmetric operator, ascending, (k,), and their eigenvectors, (size, k).

    Parameters
    ----------
    product : function
        Returns the operator times a vector (size,).
    size, k : int
        The operator's dimension, and the number of eigenpairs, at most `size`.
    which : {"largest", "smallest", "magnitude", "both"}
        As for `gdcore.analysis.eigenvalues`.
    tolerance : float
        The largest residual ‖A u - λ u‖ of a pair, relative to the largest eigenvalue.
    seed : int
        Seed of the random vectors.

    Raises
    ------
    NotConverged
        If the tolerance is not reached.
    """
    rng = np.random.default_rng(seed)
    operator = _Scaled(product)
    found = _Found(k, which, size)
    while len(found.values) < k or (found.sides.size and len(found.values) < size):
        if not _Space(operator, found, rng.standard_normal(size), max(tolerance, FINEST)).search():
            break
    at = pick(found.values, k, which)
    return found.values[at] * (operator.unit or 1.0), np.ascontiguousarray(found.vectors[at].T)


def pick(values: Vector, k: int, which: str) -> npt.NDArray[np.int64]:
    """Return the positions of `k` of the ascending `values`, ascending."""
    n = len(values)
    if which == "magnitude":
        return np.sort(np.argsort(-np.abs(values), kind="stable")[:k])
    low = _from_below(k, which)
    return np.concatenate([np.arange(low), np.arange(n - (k - low), n)])


def _from_below(k: int, which: str) -> int:
    """Return the number of the `k` eigenvalues that are taken from the lower end."""
    return {"largest": 0, "smallest": k, "both": k // 2}[which]


class _Scaled:
    """An operator divided by the largest element of its first product, so that squares neither overflow nor vanish."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self.unit = 0.0

    def __call__(self, v: Vector) -> Vector:
        w = self._product(v)
        self.unit = self.unit or float(np.abs(w).max())
        return w / (self.unit or 1.0)


class _Found:
    """The eigenpairs found so far: values ascending (m,), vectors (m, size).

    `sides` holds the ends, -1 and 1, at which a repeated eigenvalue can be missed. For the outermost eigenvalue alone,
    the multiplicity does not matter.
    """

    def __init__(self, k: int, which: str, size: int) -> None:
        self.k, self.which = k, which
        self.values, self.vectors = np.empty(0), np.empty((0, size))
        low, high = (k, k) if which == "magnitude" else (_from_below(k, which), k - _from_below(k, which))
        self.sides = np.array([side for side, count in ((-1, low), (1, high)) if count > 1], dtype=np.int64)

    def add(self, values: Vector, vectors: Vector) -> None:
        """Add pairs."""
        order = np.argsort(np.concatenate([self.values, values]), kind="stable")
        self.values = np.concatenate([self.values, values])[order]
        self.vectors = np.concatenate([self.vectors, vectors])[order]

    def limits(self) -> Vector:
        """Return for each side the value beyond which a remaining eigenvalue would be one of the k."""
        if len(self.values) < self.k:
            return np.empty(0)
        picked = self.values[pick(self.values, self.k, self.which)]
        if self.which == "magnitude":
            return np.asarray(self.sides * np.abs(picked).min())
        low = _from_below(self.k, self.which)
        return np.array([picked[low - 1] if side < 0 else picked[low] for side in self.sides])

    def wanted(self, values: Vector, margin: float) -> npt.NDArray[np.bool_]:
        """Return a mask of the ascending `values` among the k, by more than `margin` if k are already found."""
        union = np.concatenate([self.values, values])
        order = np.argsort(union, kind="stable")
        picked = order[pick(union[order], min(self.k, len(union)), self.which)] - len(self.values)
        mask = np.zeros(len(values), dtype=bool)
        mask[picked[picked >= 0]] = True
        if len(self.values) >= self.k:
            beyond = [
                side * values > side * limit + margin for side, limit in zip(self.sides, self.limits(), strict=True)
            ]
            mask &= np.any(beyond, axis=0)
        return mask


class _Space:
    """A Krylov space orthogonal to the eigenvectors found: an orthonormal basis, and the operator projected onto it.

    Each basis vector is p(A) times the first one, with a polynomial p; `growth` holds p at the limits of `found`. No
    component of a unit vector is longer than 1. So an eigenvalue beyond a limit can remain only if the first vector's
    component along its eigenvector is less than 1/|p|. This is unlikely for a random vector of n elements:
    P(component < δ) ≈ δ √(2n/π) (Kuczyński and Woźniakowski 1992).
    """

    def __init__(self, operator: _Scaled, found: _Found, start: Vector, tolerance: float) -> None:
        self.operator, self.found, self.tolerance = operator, found, tolerance
        left = start.size - len(found.values)
        self.room = min(left, max(2 * found.k + 1, ROOM, MEMORY // start.size))
        self.whole = self.room == left
        self.basis = np.empty((self.room, start.size))
        self.projected = np.zeros((self.room, self.room))
        self.length = 0  # of the basis
        self.scale = float(np.abs(found.values).max(initial=0.0))
        self.points = found.limits() + found.sides[: len(found.limits())] * tolerance * self.scale
        self.growth = np.ones((self.room + 1, self.points.size))
        self.enough = np.sqrt(2 * left / np.pi) / MISSED
        self.next, _ = self._orthogonal(start)
        self.next /= np.linalg.norm(self.next)

    def search(self) -> bool:
        """Add the converged pairs to `found` once all wanted ones have converged; return False if none is wanted."""
        for _ in range(RESTARTS):
            look = self.length + 3
            while self.length < self.room:
                rest = self._step()
                if self.length in (look, self.room) or rest <= self.tolerance * self.scale:
                    look = self.length + max(3, self.length // 10)
                    values, vectors = np.linalg.eigh(self.projected[: self.length, : self.length])
                    self.scale = max(self.scale, float(np.abs(values).max()))
                    margin = self.tolerance * self.scale
                    done = np.abs(rest * vectors[-1]) <= margin
                    wanted = self.found.wanted(values, margin)
                    if wanted.any():
                        if done[wanted].all():
                            self.found.add(values[done], vectors[:, done].T @ self.basis[: self.length])
                            return True
                    elif self._nothing_left(done):
                        return False
            self._restart(values, vectors)
        raise NotConverged(
            f"tolerance: got {self.tolerance:g}, which Lanczos iteration did not reach for {self.found.k} eigenvalues "
            f"in {RESTARTS} restarts with {self.room} vectors; expected a larger one"
        )

    def _nothing_left(self, done: npt.NDArray[np.bool_]) -> bool:
        """Return whether no eigenvalue remains beyond the limits, given that no Ritz value lies there."""
        grown = (np.abs(self.growth[: self.length + 1]) >= self.enough).any(axis=0)
        return all(enough or done[0 if side < 0 else -1] for side, enough in zip(self.found.sides, grown, strict=True))

    def _step(self) -> float:
        """Add the next vector to the basis; return the norm of its image orthogonal to the space."""
        last = self.length
        self.basis[last] = self.next
        self.length += 1
        w, along = self._orthogonal(self.operator(self.next))
        self.projected[last, : last + 1] = self.projected[: last + 1, last] = along
        rest = 0.0 if self.whole and self.length == self.room else float(np.linalg.norm(w))
        if rest > 0.0:
            self.next = w / rest
            grown = (self.points * self.growth[last] - along @ self.growth[: last + 1]) / rest
            self.growth[last + 1] = np.clip(grown, -1e100, 1e100)
        return rest

    def _orthogonal(self, w: Vector) -> tuple[Vector, Vector]:
        """Return the part of `w` orthogonal to the basis and the eigenvectors found, and its part along the basis."""
        basis, found = self.basis[: self.length], self.found.vectors
        along = np.zeros(self.length)
        for _ in range(2):  # one pass leaves rounding relative to w, two relative to the remainder
            w = w - (found @ w) @ found
            part = basis @ w
            w -= part @ basis
            along += part
        return w, along

    def _restart(self, values: Vector, vectors: Vector) -> None:
        """Keep the best Ritz vectors only."""
        kept = pick(values, self.room // 2, self.found.which)
        for first in range(0, self.basis.shape[1], 4096):  # in pieces, because a second half of a basis may not fit
            piece = self.basis[:, first : first + 4096]
            piece[: kept.size] = vectors[:, kept].T @ piece
        self.growth[: kept.size] = vectors[:, kept].T @ self.growth[: self.room]
        self.growth[kept.size] = self.growth[self.room]
        self.projected[...] = 0.0
        np.fill_diagonal(self.projected[: kept.size, : kept.size], values[kept])
        self.length = kept.size
