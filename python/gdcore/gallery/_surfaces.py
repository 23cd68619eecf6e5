"""Error surfaces with known curvature and the paths of real training runs over them, for the pictures of paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arrays import to_array
from .._checks import instance, integer, real
from .._figures import GRID, INK
from ..analysis.objective import Objective, Vector, finite_array
from ..model import Sequential
from ..trainer import Trainer

FAINT = "#a0a0a0"  # contours


@dataclass(frozen=True)
class Quadratic:
    """A regression of n inputs whose mean squared error is ½ Σ λ_i α_i², α the coordinates of w - w* in a basis.

    Attributes
    ----------
    x, y : ndarray
        The data, (n, n) and (n,).
    eigenvalues : ndarray
        λ_i, shape (n,).
    basis : ndarray
        The eigenvectors u_i in its columns, (n, n).
    minimum : ndarray
        w*, shape (n,).
    """

    x: Vector
    y: Vector
    eigenvalues: Vector
    basis: Vector
    minimum: Vector

    def model(self, start: npt.ArrayLike) -> Sequential:
        """Return a model of n weights that stands at `start`."""
        model = Sequential(_core.Dense(len(self.minimum), 1, bias=False), seed=0, dtype="float64")
        model.parameters()["layers.0.weight"][...] = np.asarray(start)
        return model

    def objective(self) -> Objective:
        """Return the error as a function of w."""
        return Objective(self.model(self.minimum), _core.MeanSquaredError(), self.x, self.y)

    def coordinates(self, w: Vector) -> Vector:
        """Return α of points w, in the shape of `w`: (..., n)."""
        return np.asarray((w - self.minimum) @ self.basis)


def rotated(degrees: float) -> Vector:
    """Return the basis of the plane that is turned by an angle: (2, 2), a vector in each column."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def quadratic_problem(
    eigenvalues: npt.ArrayLike, basis: npt.ArrayLike | None = None, *, minimum: npt.ArrayLike | None = None
) -> Quadratic:
    """Return a regression whose Hessian is known: of the mean of n squares it is 2 XᵀX / n, so X = √(n/2) Λ^½ Uᵀ.

    Parameters
    ----------
    eigenvalues : array
        λ_i, at least 0, shape (n,).
    basis : array, optional
        Orthonormal eigenvectors in the columns of (n, n); the axes of the weights when left out.
    minimum : array, optional
        w*, shape (n,); the origin when left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is no array of finite numbers of the right shape, an eigenvalue is negative, or `basis` is not
        orthonormal.
    """
    values = _numbers(eigenvalues, "eigenvalues", None)
    if values.min() < 0:
        raise ValueError(f"eigenvalues: got {values.min():g}; expected none below 0, for an error has a minimum")
    n = len(values)
    u = np.eye(n) if basis is None else _numbers(basis, "basis", (n, n))
    if not np.allclose(u.T @ u, np.eye(n), atol=1e-9):
        raise ValueError("basis: the columns are not orthonormal; expected vectors of length 1 at right angles")
    w = np.zeros(n) if minimum is None else _numbers(minimum, "minimum", (n,))
    x = np.sqrt(0.5 * n * values)[:, None] * u.T
    return Quadratic(x, x @ w, values, u, w)


def _numbers(value: npt.ArrayLike, name: str, shape: tuple[int, ...] | None) -> Vector:
    """Return `value` as finite float64 numbers in this shape, or in any (n,)."""
    array = np.asarray(to_array(value, name), dtype=np.float64)
    if array.shape != shape and (shape is not None or array.ndim != 1 or not array.size):
        raise ValueError(f"{name}: got shape {array.shape}; expected {shape or '(n,), n at least 1'}")
    finite_array(array, name)
    return array


def walk(model: Sequential, x: Vector, y: Vector, optimizer: _core.Optimizer, steps: int) -> Vector:
    """Train on the mean squared error over all rows, and return where the weights were: (steps + 1, P)."""
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=optimizer)
    views = [view.reshape(-1) for view in model.parameters().values()]
    path = [np.concatenate(views)]
    for _ in range(integer(steps, "steps")):
        trainer.step(x, y)
        path.append(np.concatenate(views))
    return np.array(path)


def descend(problem: Quadratic, optimizer: _core.Optimizer, start: npt.ArrayLike, steps: int) -> Vector:
    """Train on a `quadratic_problem` with all rows in each step, and return the path.

    Parameters
    ----------
    problem : Quadratic
        Of n weights.
    optimizer : Optimizer
        Such as ``gd.SGD(lr=0.1)``.
    start : array
        Where the weights begin, shape (n,).
    steps : int
        How many steps.

    Returns
    -------
    ndarray
        The weights before the first step and after each, shape (steps + 1, n).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    DivergenceError
        If the error becomes infinite.
    """
    instance(problem, Quadratic, "problem", "quadratic_problem([1, 25])")
    model = problem.model(_numbers(start, "start", problem.minimum.shape))
    return walk(model, problem.x, problem.y, optimizer, steps)


@dataclass(frozen=True)
class Pushed:
    """What an optimiser made of given gradients of one weight: its places (T + 1,) and its states, each (T,)."""

    places: Vector
    states: list[Vector]

    @property
    def steps(self) -> Vector:
        """The changes of the weight, shape (T,)."""
        return np.diff(self.places)


def push(optimizer: _core.Optimizer, gradients: Iterable[float]) -> Pushed:
    """Give an optimiser one gradient after another, of a model of one weight that starts at 0.

    Parameters
    ----------
    optimizer : Optimizer
        Such as ``gd.Momentum(lr=0.1)``.
    gradients : iterable of float
        The T gradients.

    Returns
    -------
    Pushed
        ``places`` (T + 1,), ``steps`` (T,) and ``states``, a list of the optimiser's states after each step, (T,) each.

    Raises
    ------
    TypeError
        If `optimizer` is none, or a gradient is no number.
    ValueError
        If a gradient is not finite.
    """
    model = Sequential(_core.Dense(1, 1, bias=False, init=_core.Constant(0.0)), seed=0, dtype="float64")
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=optimizer)
    weight, one = model.parameters()["layers.0.weight"], np.ones((1, 1))
    places, states = [0.0], []
    for i, gradient in enumerate(gradients):
        model.forward(one)
        slope = np.full((1, 1), real(gradient, f"gradients[{i}]"))
        model.backward(slope)  # the input is 1, so that this is the gradient of the weight itself
        trainer.optimizer_step()
        places.append(float(weight[0, 0]))
        states.append([float(state[0]) for state in trainer.core.state().values()])
    return Pushed(np.array(places), [np.array(column) for column in zip(*states, strict=True)])


def contours(
    axes: Any,
    objective: Objective,
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    levels: int | Sequence[float] = 9,
    points: int = 81,
    through: npt.ArrayLike | None = None,
    colour: str = FAINT,
) -> None:
    """Draw the contours of an error of two weights, darker where it is low, and a stronger one through a point.

    `levels` are heights, or a number of them at equal steps in √E, which ring a round bowl evenly.
    """
    first, second = np.linspace(*x, points), np.linspace(*y, points)
    values = np.array([[objective.value([a, b]) for a in first] for b in second])
    low, high = values.min(), values.max()
    even = np.linspace(np.sqrt(low), np.sqrt(high), levels + 2)[1:-1] ** 2 if isinstance(levels, int) else levels
    heights = [float(height) for height in even]
    axes.contourf(first, second, values, [low, *heights, high], cmap="Greys_r", alpha=0.18)
    axes.contour(first, second, values, heights, colors=colour, linewidths=0.8)
    if through is not None:
        axes.contour(first, second, values, [objective.value(through)], colors=INK, linewidths=1.3)
    axes.set_xlim(*x)
    axes.set_ylim(*y)


def trace(
    axes: Any, path: Vector, *, colour: str, label: str | None = None, marker: str = "o", style: Any = "-"
) -> None:
    """Draw a path with a marker at each step and a ring where it begins."""
    axes.plot(path[:, 0], path[:, 1], ls=style, color=colour, lw=1.6, marker=marker, ms=3.5, label=label, zorder=4)
    axes.plot(path[0, 0], path[0, 1], "o", ms=8, mfc="white", mec=INK, mew=1.5, zorder=5)


def star(axes: Any, place: npt.ArrayLike, *, label: str | None = None, colour: str = INK) -> None:
    """Mark a minimum."""
    x, y = np.asarray(place)
    axes.plot(x, y, "*", ms=13, mfc=colour, mec="white", mew=0.8, ls="none", label=label, zorder=6)


def plain(axes: Any) -> None:
    """Take the grid away and give the plane of two weights a full frame."""
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(GRID)


def finish(figure: Any, title: str, path: str | os.PathLike[str]) -> None:
    """Give a figure of several panels its title (one of a single panel has it already: ""), and save it."""
    if title:
        figure.set_layout_engine("compressed")
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    figure.savefig(os.fspath(path), dpi=100, facecolor="white")
