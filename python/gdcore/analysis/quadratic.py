"""`QuadraticModel`: the loss near a point as a quadratic function, in its eigenbasis (chapter, slides 5-10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data, to_array
from ..internal.attributes import Made
from ..internal.checks import integer, real
from ..internal.display import Shown
from ..model import Sequential
from .derivatives import MEMORY_LIMIT, dense_hessian
from .objective import Mode, Objective, Vector, as_objective, finite_array, point_at, refuse_beside

__all__ = ["QuadraticModel", "Quality", "as_quadratic", "rounding", "scale"]

SYMMETRY = 1e-10  # largest asymmetry of a given Hessian, relative to its largest element
IN_RANGE = 1e-8  # largest part of b in the null space of H, relative to the length of b


@explained
class QuadraticModel(Made):
    """The local quadratic model of a model's loss: E(w) ≈ E(ŵ) + (w-ŵ)ᵀb + ½(w-ŵ)ᵀH(w-ŵ), b = ∇E(ŵ) (slide 5).

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight
        As for `Objective`, which also describes the order of the parameters; or an `Objective` alone: then E is its
        function, with its weight decay.
    at : array, optional
        The point ŵ, shape (P,). Default: the model's parameters.
    memory_limit : int
        Largest size allowed for H, which takes 8 P² bytes. Its eigenvectors, computed on first use, take the same.

    Attributes
    ----------
    center : ndarray
        ŵ, shape (P,). All arrays are float64 and read-only.
    value : float
        E(ŵ).
    b : ndarray
        ∇E(ŵ), shape (P,).
    hessian : ndarray
        H, shape (P, P), symmetric.

    Raises
    ------
    TypeError, ValueError
        As for `Objective` and `hessian`, and if `at` has another length or is not finite, or E is not finite there.

    Notes
    -----
    An eigenvalue counts as zero if |λ_i| is at most 8 P ε max|λ| with ε = 2⁻⁵², the rounding error. The object keeps
    the model and the data for `quality`; later training of the model does not change it.
    """

    _made = ("hessian", "b", "center", "value")

    def __init__(
        self,
        model: Sequential | Objective,
        loss: _core.Loss | None = None,
        x: Data | None = None,
        y: Data | None = None,
        *,
        at: npt.ArrayLike | None = None,
        mode: Mode = "training",
        sample_weight: Data | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        objective = as_objective(model, loss, x, y, mode=mode, sample_weight=sample_weight)
        center = point_at(objective, at)
        value, gradient = objective.value_and_gradient(center)
        self._set(dense_hessian(objective, center, memory_limit=memory_limit), gradient, center, value, objective)

    @classmethod
    def from_arrays(
        cls,
        hessian: npt.ArrayLike,
        gradient: npt.ArrayLike | None = None,
        center: npt.ArrayLike | None = None,
        value: float = 0.0,
    ) -> QuadraticModel:
        """Return the quadratic function of a given Hessian, for examples and for your own losses.

        Parameters
        ----------
        hessian : array
            H, shape (P, P), symmetric up to rounding.
        gradient : array, optional
            b, shape (P,). Default: zero, which makes `center` a stationary point.
        center : array, optional
            ŵ, shape (P,). Default: the origin.
        value : float
            E(ŵ).

        Raises
        ------
        TypeError
            If an argument is not a numeric array.
        ValueError
            If `hessian` is not square, not symmetric, empty or not finite, or another array does not fit it.
        """
        matrix = np.array(to_array(hessian, "hessian"), dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"hessian: got shape {matrix.shape}; expected (P, P), a square matrix")
        finite_array(matrix, "hessian")
        gap = np.abs(matrix - matrix.T)
        if gap.max() > SYMMETRY * np.abs(matrix).max():
            i, j = (int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
            raise ValueError(
                f"hessian: element ({i}, {j}) is {matrix[i, j]} and ({j}, {i}) is {matrix[j, i]}; expected a symmetric "
                "matrix"
            )
        size = len(matrix)
        b, point = (
            np.zeros(size) if given is None else _points(given, name, size, "hessian's size", stack=False).copy()
            for given, name in ((gradient, "gradient"), (center, "center"))
        )
        self = cls.__new__(cls)
        self._set(0.5 * (matrix + matrix.T), b, point, real(value, "value"), None)
        return self

    def _set(self, hessian: Vector, b: Vector, center: Vector, value: float, objective: Objective | None) -> None:
        self.hessian, self.b, self.center, self.value = hessian, b, center.copy(), value
        self._objective = objective
        for array in (self.hessian, self.b, self.center):
            array.flags.writeable = False  # cached results stay valid

    def __repr__(self) -> str:
        """Return P, the error and the norm of the gradient at the centre."""
        return f"QuadraticModel(P={self.size}, value={self.value:.6g}, |b|={np.linalg.norm(self.b):.6g})"

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return len(self.b)

    @property
    def objective(self) -> Objective | None:
        """The function E that the object was made from; None if it was made by `from_arrays`."""
        return self._objective

    @property
    def includes_decay(self) -> bool:
        """Whether E has a penalty: whether the object was made from an `Objective` with weight decay."""
        return self._objective is not None and bool(self._objective.decay.any())

    def error(self, w: npt.ArrayLike) -> float | Vector:
        """Return the predicted E at `w`: a float for shape (P,), an array (...) for a stack (..., P)."""
        d = _points(w, "w", self.size) - self.center
        change = d @ self.b + 0.5 * np.sum(d * (d @ self.hessian), axis=-1)
        return float(self.value + change) if d.ndim == 1 else np.asarray(self.value + change)

    def gradient(self, w: npt.ArrayLike) -> Vector:
        """Return the predicted ∇E = b + H(w-ŵ) at `w` (P,), or at each point of a stack (..., P): the same shape."""
        return np.asarray(self.b + (_points(w, "w", self.size) - self.center) @ self.hessian)

    @cached_property
    def _eigen(self) -> tuple[Vector, Vector]:
        values, vectors = np.linalg.eigh(self.hessian)
        values.flags.writeable = vectors.flags.writeable = False
        return values, vectors

    @property
    def eigenvalues(self) -> Vector:
        """λ_i, ascending, shape (P,) (slide 7)."""
        return self._eigen[0]

    @property
    def eigenvectors(self) -> Vector:
        """u_i, orthonormal, in the columns of an array (P, P): H u_i = λ_i u_i (slide 7)."""
        return self._eigen[1]

    @property
    def is_positive_definite(self) -> bool:
        """Whether all λ_i are positive, beyond rounding (slide 9)."""
        return bool(self.eigenvalues[0] > rounding(self.eigenvalues))

    def _newton(self) -> tuple[Vector, bool]:
        """Return ŵ - H⁺b, and whether ∇E is zero there: whether b has no part in the null space of H."""
        curved = np.abs(self.eigenvalues) > rounding(self.eigenvalues)
        along = self.b @ self.eigenvectors
        left = float(np.linalg.norm(along[~curved]))
        steps = np.divide(along, self.eigenvalues, out=np.zeros_like(along), where=curved)
        small = max(IN_RANGE * float(np.linalg.norm(self.b)), rounding(self.eigenvalues) * scale(self.center))
        return self.center - self.eigenvectors @ steps, left <= small

    @property
    def stationary_point(self) -> Vector:
        """The point where the predicted ∇E is zero, ŵ - H⁻¹b, shape (P,): minimum, maximum or saddle.

        Raises
        ------
        ValueError
            If H is singular: then there is no stationary point, or more than one.
        """
        smallest = float(np.min(np.abs(self.eigenvalues)))
        if smallest <= rounding(self.eigenvalues):
            raise ValueError(
                f"stationary_point: the eigenvalue {smallest:.3g} is zero up to rounding (the largest magnitude is "
                f"{np.max(np.abs(self.eigenvalues)):.3g}); expected a nonsingular Hessian: see origin"
            )
        return self._newton()[0]

    @property
    def minimum(self) -> Vector:
        """The minimum w* of the quadratic model, ŵ - H⁻¹b, shape (P,) (slide 6).

        Raises
        ------
        ValueError
            If H is not positive definite; gives the number of eigenvalues that are not positive, and the smallest.
        """
        self._need_positive("minimum")
        return self._newton()[0]

    def _need_positive(self, what: str) -> None:
        if not self.is_positive_definite:
            count = int(np.sum(self.eigenvalues <= rounding(self.eigenvalues)))
            raise ValueError(
                f"{what}: {count} of {self.size} eigenvalues are not positive, the smallest is "
                f"{self.eigenvalues[0]:.3g}; expected a positive definite Hessian"
            )

    @property
    def origin(self) -> Vector:
        """The origin of `coordinates`, shape (P,).

        The stationary point w*, if there is one. If H is singular and b lies in its range, there are many; the origin
        is the one nearest to ŵ, ŵ - H⁺b (pseudo-inverse). If b has a part in the null space of H (more than 1e-8 of its
        length, beyond rounding), ∇E is zero nowhere; the origin is then ŵ.
        """
        point, stationary = self._newton()
        return point if stationary else self.center

    def coordinates(self, w: npt.ArrayLike) -> Vector:
        """Return the coordinates α_i = u_iᵀ(w - w*) of points along the eigenvectors (slide 7).

        Around a stationary point w*, E(w) = E(w*) + ½ Σ λ_i α_i² (slide 8); `origin` describes w* for a singular H. The
        inverse is ``origin + eigenvectors @ alpha``.

        Parameters
        ----------
        w : array
            Shape (P,), or a stack (..., P).

        Returns
        -------
        ndarray
            α in the order of `eigenvalues`, in the shape of `w`.
        """
        return np.asarray((_points(w, "w", self.size) - self.origin) @ self.eigenvectors)

    def semi_axes(self, level: float) -> Vector:
        """Return the semi-axes √(2C/λ_i) of the ellipsoid on which E = E(w*) + C (slides 9-10).

        Along u_i, ½ λ_i α_i² = C gives α_i = √(2C/λ_i). The slide's √(C/λ_i) is the same if C is the value of
        Σ λ_i α_i², which is 2 (E - E(w*)).

        Parameters
        ----------
        level : float
            C, the height of the contour above the minimum, in units of E; above 0.

        Returns
        -------
        ndarray
            Shape (P,), in the order of `eigenvalues`: the longest axis first.

        Raises
        ------
        ValueError
            If H is not positive definite (the contours are not ellipsoids), or `level` is not above 0.
        """
        rise = real(level, "level", low=0.0, open_low=True)
        self._need_positive("semi_axes")
        return np.asarray(np.sqrt(2.0 * rise / self.eigenvalues))

    def quality(self, radius: float, *, n: int = 20, seed: int = 0) -> Quality:
        """Compare the quadratic model with the true E and ∇E at a distance from ŵ, in random directions.

        Parameters
        ----------
        radius : float
            The distance ‖w - ŵ‖, above 0.
        n : int
            Number of directions, uniformly distributed.
        seed : int
            Seed of the directions.

        Returns
        -------
        Quality
            Relative errors. They shrink with the radius, down to rounding: that of ∇E in proportion, that of E with its
            square (in proportion if ŵ is a stationary point).

        Raises
        ------
        ValueError
            If the object is from `from_arrays` (there is no model to compare with), an argument is out of range, or the
            true E is not finite at that distance.
        """
        if self._objective is None:
            raise ValueError("quality: got a QuadraticModel of from_arrays; expected one made from a model and data")
        distance = real(radius, "radius", low=0.0, open_low=True)
        rng = np.random.default_rng(integer(seed, "seed"))
        d = rng.standard_normal((integer(n, "n", minimum=1), self.size))
        points = self.center + distance * d / np.linalg.norm(d, axis=1, keepdims=True)
        found = [self._objective.value_and_gradient(w) for w in points]
        values, gradients = np.array([v for v, _ in found]), np.array([g for _, g in found])
        if not np.isfinite(values).all():
            raise ValueError(f"radius: got {distance:g}; expected less, as E is not finite at that distance")
        return Quality(
            radius=distance,
            n=len(points),
            value_error=_relative(self.error(points) - values, values - self.value),
            gradient_error=_relative(self.gradient(points) - gradients, gradients - self.b),
        )


@dataclass(frozen=True)
class Quality(Shown):
    """The errors of a `QuadraticModel` at a distance from its centre.

    Attributes
    ----------
    radius : float
        The distance from ŵ.
    n : int
        Number of random directions.
    value_error : float
        Error of the predicted change of E divided by the change, E(w) - E(ŵ), both as root mean squares over the
        directions; 0 is exact.
    gradient_error : float
        The same for the change of the gradient, ∇E(w) - ∇E(ŵ), with the norms of the vectors.
    """

    radius: float
    n: int
    value_error: float
    gradient_error: float

    def __str__(self) -> str:
        """Return one line with both errors."""
        return (
            f"at distance {self.radius:.3g} ({self.n} directions): change of E predicted to {self.value_error:.2%}, "
            f"change of its gradient to {self.gradient_error:.2%}"
        )


def as_quadratic(
    model: Any, loss: Any, x: Any, y: Any, *, memory_limit: int = MEMORY_LIMIT, **where: Any
) -> QuadraticModel:
    """Return `model` if it is a QuadraticModel, or make one from an Objective or the arguments of a call.

    `where` holds the call's `at`, `mode` and `sample_weight`. Raises TypeError if other data is given together with a
    QuadraticModel.
    """
    if not isinstance(model, QuadraticModel):
        return QuadraticModel(model, loss, x, y, memory_limit=memory_limit, **where)
    refuse_beside("QuadraticModel", loss=loss, x=x, y=y, **where)
    return model


def rounding(eigenvalues: Vector) -> float:
    """Return the magnitude up to which an eigenvalue of a Hessian counts as rounding: 8 P ε max|λ|, ε = 2⁻⁵²."""
    return float(8 * len(eigenvalues) * np.finfo(np.float64).eps * np.max(np.abs(eigenvalues)))


def scale(center: Vector) -> float:
    """Return the reference length for distances from a point: its norm, but at least 1."""
    return max(1.0, float(np.linalg.norm(center)))


def _points(value: npt.ArrayLike, name: str, size: int, of: str = "the model's size", *, stack: bool = True) -> Vector:
    """Return `value` as a finite float64 point (P,), or a stack (..., P); raise ValueError naming it otherwise."""
    array = np.asarray(to_array(value, name), dtype=np.float64)
    if array.shape[-1:] != (size,) or (array.ndim > 1 and not stack):
        raise ValueError(
            f"{name}: got shape {array.shape}; expected ({size},){f' or (..., {size})' if stack else ''}, {of}"
        )
    finite_array(array, name)
    return array


def _relative(error: npt.ArrayLike, change: Vector) -> float:
    """Return the norm of `error` divided by that of `change`: 0 if both are 0."""
    size, reference = float(np.linalg.norm(error)), float(np.linalg.norm(change))
    return size / reference if reference > 0 else (0.0 if size == 0 else float("inf"))
