"""The loss over a plane through parameter space: eigenvectors, random directions, or other solutions (slides 9-10)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from ..callbacks.progress import tqdm_bar
from ..internal.arguments import explained
from ..internal.arrays import Data, to_array
from ..internal.checks import integer, real
from ..internal.display import Shown
from ..model import Sequential
from ..table import Table
from ._planes import choose_plane, coordinates, extent, half_widths, vectors
from .objective import Decay, Mode, Objective, Vector, as_objective, finite_array, point_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LossSurface", "ProjectedPath", "loss_surface"]


class ProjectedPath(NamedTuple):
    """Points in the coordinates of a plane.

    ``coordinates`` is (T, 2), or (T, 1) on a line: α and β of each point's projection onto the plane. ``outside`` is
    (T,): the share of its distance from the centre that is orthogonal to the plane, 0 for a point in the plane.
    """

    coordinates: Vector
    outside: Vector


@dataclass(frozen=True, eq=False)
class LossSurface(Shown):
    """Values of E over the plane w = centre + α d₁ + β d₂, or the line w = centre + α d₁.

    Attributes
    ----------
    alphas, betas : ndarray
        The grid's coordinates, shapes (A,) and (B,); ``betas`` is [0] on a line.
    values : ndarray
        E, shape (B, A): ``values[j, i]`` at ``alphas[i]``, ``betas[j]``. Infinite or nan where the loss overflows.
    center : ndarray
        The point (P,) at α = β = 0.
    directions : ndarray
        d₁ and d₂ in the rows, shape (2, P), or (1, P).
    labels : tuple of str
        Descriptions of the directions, for the axes.
    value : float
        E at the centre.
    gradient : ndarray
        Slopes of E along the directions at the centre, shape (2,) or (1,).
    curvature : ndarray
        The Hessian within the plane at the centre, d_iᵀ H d_j, shape (2, 2) or (1, 1).
    eigenvalues : ndarray or None
        λ₁ and λ₂ if the directions are eigenvectors of the Hessian.
    marks : dict
        Coordinates of further points to show, by name.
    mark_values : tuple of float
        E at each of these points.
    """

    alphas: Vector
    betas: Vector
    values: Vector
    center: Vector
    directions: Vector
    labels: tuple[str, ...]
    value: float
    gradient: Vector
    curvature: Vector
    eigenvalues: Vector | None
    marks: dict[str, tuple[float, ...]]
    mark_values: tuple[float, ...]

    def quadratic(self) -> Vector:
        """Return the local quadratic model on the grid, shape (B, A): E + bᵀa + ½ aᵀHa with a = (α, β) (slide 5)."""
        a = np.stack(np.meshgrid(self.alphas, self.betas), axis=-1)[..., : len(self.directions)]
        return np.asarray(self.value + a @ self.gradient + 0.5 * np.einsum("jik,kl,jil->ji", a, self.curvature, a))

    def quality(self, share: float = 0.5) -> float:
        """Return the largest error of the quadratic model on the central part of the grid.

        Parameters
        ----------
        share : float
            Limit of the part: |α| and |β| up to this share of their largest values; above 0, at most 1.

        Returns
        -------
        float
            The largest difference divided by E's range in this part: 0 is exact. Infinite if E overflows there.
        """
        real(share, "share", low=0.0, high=1.0, open_low=True)
        near = [np.abs(axis) <= share * np.abs(axis).max() * (1 + 1e-12) for axis in (self.alphas, self.betas)]
        part = np.ix_(near[1], near[0])
        values, predicted = self.values[part], self.quadratic()[part]
        if not np.isfinite(values).all():
            return math.inf
        return float(np.abs(predicted - values).max() / max(float(np.ptp(values)), np.finfo(np.float64).tiny))

    def ellipses(self, levels: npt.ArrayLike, *, points: int = 181) -> list[Vector]:
        """Return the contours of the local quadratic model, which are ellipses (slides 9-10).

        Around the model's lowest point a*, of value E*, the contour of value C is an ellipse with semi-axes
        √(2(C - E*)/λ_i) along the eigenvectors of the curvature.

        Parameters
        ----------
        levels : array
            Values C, shape (n,).
        points : int
            Points on each ellipse, at least 3; the last one repeats the first.

        Returns
        -------
        list of ndarray
            For each level an array (points, 2) of α and β; empty, (0, 2), if the level is below E*.

        Raises
        ------
        ValueError
            If the curvature within the plane is not positive definite, so contours are not ellipses; or on a line.
        """
        heights = np.atleast_1d(np.asarray(to_array(levels, "levels"), dtype=np.float64))
        finite_array(heights, "levels")
        integer(points, "points", minimum=3, expected="a number of points")
        if len(self.directions) != 2:
            raise ValueError("ellipses: got a line; expected a plane of two directions")
        values, vectors = np.linalg.eigh(self.curvature)
        if values[0] <= 0:
            raise ValueError(
                f"ellipses: got a plane of curvatures {values[0]:.4g} and {values[1]:.4g}; expected both to be "
                "positive, as at a minimum: other contours are not ellipses"
            )
        bottom = -np.linalg.solve(self.curvature, self.gradient)
        lowest = self.value + 0.5 * float(self.gradient @ bottom)
        angle = np.linspace(0.0, 2 * np.pi, points)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found = []
        for height in heights:
            axes = np.sqrt(2 * max(height - lowest, 0.0) / values)
            found.append(bottom + (circle * axes) @ vectors.T if height >= lowest else np.empty((0, 2)))
        return found

    def path(self, points: npt.ArrayLike) -> ProjectedPath:
        """Project points onto the plane, such as those of a training run.

        Parameters
        ----------
        points : array
            Shape (T, P), or (P,) for one point.

        Returns
        -------
        ProjectedPath
            ``coordinates`` (T, 2) or (T, 1), and ``outside`` (T,).

        Raises
        ------
        ValueError
            If a point has another length than P, or is not finite.
        """
        return ProjectedPath(*coordinates(vectors(points, "points", self.center.size), self.center, self.directions))

    def table(self) -> Table:
        """Return a row for each point of the grid: α, β, E, and the value of the quadratic model."""
        predicted = self.quadratic()
        return Table(
            {"alpha": float(a), "beta": float(b), "loss": float(self.values[j, i]), "quadratic": float(predicted[j, i])}
            for j, b in enumerate(self.betas)
            for i, a in enumerate(self.alphas)
        )

    def __str__(self) -> str:
        """Return the directions, the lowest point, and the error of the quadratic model."""
        finite = np.where(np.isfinite(self.values), self.values, math.inf)
        j, i = np.unravel_index(int(np.argmin(finite)), finite.shape)
        size = " x ".join(str(n) for n in self.values.T.shape[: len(self.directions)])
        return (
            f"{size} values along {' and '.join(self.labels)}\n"
            f"E = {self.value:.6g} at the centre; lowest {finite[j, i]:.6g} at α = {self.alphas[i]:.4g}, "
            f"β = {self.betas[j]:.4g}\n"
            f"the quadratic model is within {self.quality():.3g} of E's range up to half of the grid"
        )

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        trajectory: npt.ArrayLike | None = None,
        levels: int = 12,
    ) -> Axes:
        """Plot contours of E and of the quadratic model, with a training path over them.

        Parameters
        ----------
        path : path, optional
            File to save the figure in; the suffix gives the format.
        trajectory : array, optional
            Points (T, P) of a training run, such as ``PathRecorder().path``; its projection onto the plane is drawn.
        levels : int
            Number of contours, at least 2.

        Returns
        -------
        Axes
            The matplotlib axes.

        Raises
        ------
        ValueError
            If the trajectory does not fit, or no value of E is finite.
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.loss_surface import draw

        integer(levels, "levels", minimum=2, expected="a number of contours")
        points = None if trajectory is None else vectors(trajectory, "trajectory", self.center.size)
        if not np.isfinite(self.values).any():
            raise ValueError("values: no value of E is finite; expected a smaller span")
        return draw(self, path, None if points is None else self.path(points), levels)


@explained
def loss_surface(
    model: Sequential | Objective,
    loss: _core.Loss | None = None,
    x: Data | None = None,
    y: Data | None = None,
    *,
    directions: str | npt.ArrayLike = "eigenvectors",
    through: Sequence[npt.ArrayLike | Sequential] = (),
    span: float | Sequence[float] | None = None,
    cover: npt.ArrayLike | None = None,
    points: int = 41,
    at: npt.ArrayLike | None = None,
    mode: Mode = "training",
    sample_weight: Data | None = None,
    weight_decay: Decay = 0.0,
    decay_biases: bool = False,
    seed: int | None = 0,
    progress: bool = False,
) -> LossSurface:
    """Compute E on a grid in a plane through parameter space, to draw its contours.

    Parameters
    ----------
    model, loss, x, y, mode, sample_weight, weight_decay, decay_biases
        As for `Objective`, or an `Objective` alone. With weight decay, E is the loss plus ½ Σ λ_i w_i² everywhere: in
        the values, the gradient, the curvature and its eigenvectors.
    directions : str or array
        "eigenvectors": those of the Hessian's largest and smallest eigenvalue at the centre. "largest": those of the
        two largest. "random": random directions with each unit's incoming weights scaled to the norm of the model's,
        and with 0 for biases, γ and β (filter-normalised: Li et al. 2018). "path": the principal directions of
        `cover`, which show most of a training path. Or vectors: shape (2, P), or (1, P) for a line.
    through : sequence of one or two vectors (P,) or models
        Further solutions: the plane through the centre and two of them, or the line through one, replaces
        `directions`. d₁ points from the centre to the first solution, which lies at α = 1; d₂ is orthogonal to d₁ and
        has the same length.
    span : float or two floats, optional
        The grid covers -span to span, in units of the directions. Default: for eigenvectors 1.5 √(2E/|λ|), where a
        quadratic minimum has risen to 3.25 E; for "path" and `through` a grid that contains all points; 1 for others.
    cover : array, optional
        Points (T, P), such as a training path: without `span`, the grid contains all of them.
    points : int
        Grid points along each direction, at least 3.
    at : array, optional
        The centre (P,). Default: the model's parameters.
    seed : int, optional
        Seed of random directions, and of the search for eigenvectors.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    LossSurface
        ``values`` (B, A), ``alphas``, ``betas``; `LossSurface.plot` draws it.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, directions are parallel or zero, or E is not finite at the centre;
        and as for `Objective`.
    ImportError
        If tqdm is needed for the progress bar and not installed.
    """
    decay = {"weight_decay": weight_decay, "decay_biases": decay_biases}
    objective = as_objective(model, loss, x, y, mode=mode, sample_weight=sample_weight, **decay)
    integer(points, "points", minimum=3, expected="a number of points")
    middle = point_at(objective, at)
    covered = np.empty((0, objective.size)) if cover is None else vectors(cover, "cover", objective.size)
    plane = choose_plane(objective, middle, directions, through, covered, seed)
    if span is None:
        low, high = extent(plane, coordinates(covered, middle, plane.directions)[0])
    else:
        high = half_widths(span, len(plane.directions))
        low = -high
    axes = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    alphas, betas = axes[0], axes[1] if len(axes) == 2 else np.zeros(1)
    value, gradient = objective.value_and_gradient(middle)
    products = np.stack([objective.hvp(d, middle) for d in plane.directions])
    curvature = plane.directions @ products.T
    return LossSurface(
        alphas=alphas,
        betas=betas,
        values=_values(objective, middle, plane.directions, alphas, betas, progress),
        center=middle,
        directions=plane.directions,
        labels=plane.labels,
        value=value,
        gradient=plane.directions @ gradient,
        curvature=0.5 * (curvature + curvature.T),
        eigenvalues=plane.eigenvalues,
        marks=plane.marks,
        mark_values=tuple(objective.value(middle + np.array(mark) @ plane.directions) for mark in plane.marks.values()),
    )


def _values(
    objective: Objective, center: Vector, directions: Vector, alphas: Vector, betas: Vector, progress: bool
) -> Vector:
    """Return E on the grid, shape (B, A)."""
    values = np.empty((len(betas), len(alphas)))
    rows: Iterable[int] = range(len(betas))
    if progress:
        rows = tqdm_bar("loss_surface(progress=True)", sys.stderr, iterable=rows, desc="loss surface", unit="row")
    for j in rows:
        start = center if len(directions) == 1 else center + betas[j] * directions[1]
        for i, alpha in enumerate(alphas):
            values[j, i] = objective.height(start + alpha * directions[0])
    return values
