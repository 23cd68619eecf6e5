"""Pictures of errors with several minima: where descent ends, from many starts and for many widths (slides 2-4, 12)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core
from ...analysis.critical import CriticalPoint, classify_critical_point
from ...analysis.objective import Objective, Vector
from ...analysis.problems import training_path
from ...analysis.quadratic import QuadraticModel
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, log_ticks, new_axes, save
from ...schedules import cosine
from ...trainer import Trainer
from ...tuning.restarts import Restarts, restarts
from ._surfaces import contours, plain, star

__all__ = ["descents", "minima", "restarts_by_width", "restarts_of", "stationary_points", "two_bumps"]

PathLike = str | os.PathLike[str]
Problem = tuple[Sequential, _core.Loss, Vector, Vector]

STEEP, EDGES, HEIGHT = 2.0, (0.8, 2.5), 0.8  # of the bumps: their slope, their edges |x|, the height of the second
REACH = 6.0  # starts are drawn from [-REACH, REACH]²
NEAR = 0.1  # distance to a minimum at which a path counts as ended there


# ------------------------------------------------------------------------------------------- a surface of two weights
def two_bumps(seed: int = 0) -> Problem:
    """Return a network that makes one bump, and data of two bumps: an error of two weights with three minima.

    The network is ½ tanh(2x + w₁) - ½ tanh(2x + w₂), a bump from -w₁/2 to -w₂/2 where w₁ > w₂. Only the biases w₁ and
    w₂ are trained; the other parameters are frozen.

    Parameters
    ----------
    seed : int
        Of the noise in y.

    Returns
    -------
    tuple
        Model (float64), loss, x (40, 1) and y (40,).
    """
    x = np.linspace(-4, 4, 40)[:, None]
    near, far = EDGES
    y = _bump(x[:, 0], -far, -near) + HEIGHT * _bump(x[:, 0], near, far)
    y += 0.05 * np.random.default_rng(seed).standard_normal(len(x))
    layers = (_core.Dense(1, 2, init=_core.Constant(STEEP)), _core.Tanh(), _core.Dense(2, 1, bias=False))
    model = Sequential(*layers, seed=0, dtype="float64", device="cpu")
    model.parameters()["layers.2.weight"][...] = 0.5, -0.5
    model.freeze("layers.0.weight", "layers.2")
    return model, _core.MeanSquaredError(), x, y


def _bump(x: Vector, left: float, right: float) -> Vector:
    return np.asarray(0.5 * (np.tanh(STEEP * (x - left)) - np.tanh(STEEP * (x - right))))


def descents(problem: Problem, starts: npt.ArrayLike, *, lr: float = 5.0, steps: int = 250) -> Vector:
    """Descend from each start with all rows in each step, and return the paths of the two weights.

    Parameters
    ----------
    problem : tuple
        As `two_bumps` returns it. The model's weights change.
    starts : array
        Initial w₁ and w₂, shape (S, 2).
    lr, steps
        The learning rate, and the number of steps T.

    Returns
    -------
    ndarray
        The weights before the first step and after each, shape (S, T + 1, 2).
    """
    model, loss, x, y = problem
    trainer = Trainer(model, loss, optimizer=_core.SGD(lr=lr))
    paths = []
    for start in np.asarray(starts, dtype=np.float64):
        model.parameters()["layers.0.bias"][...] = start
        paths.append(training_path(trainer, x, y, steps)[:, 2:4])  # all parameters: two weights, two biases, two more
    return np.array(paths)


def stationary_points(problem: Problem) -> list[tuple[Vector, CriticalPoint]]:
    """Return the points where ∇E = 0, (2,) each, and their kinds, by increasing E.

    Newton's method starts from a grid over the square of the starts, and steps to the stationary point of the local
    quadratic model (slide 5). Points outside the square are left out.
    """
    found: list[tuple[Vector, CriticalPoint]] = []
    axis = np.linspace(-REACH, REACH, 9)
    for start in np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2):
        w = start
        with contextlib.suppress(ValueError):  # a singular Hessian
            for _ in range(12):
                last, w = w, QuadraticModel(*problem, at=w).stationary_point
                if np.abs(w).max() > REACH or np.linalg.norm(w - last) < 1e-10:
                    break
            if np.abs(w).max() <= REACH and all(np.linalg.norm(w - other) > NEAR for other, _ in found):
                point = classify_critical_point(*problem, at=w)
                found += [(w, point)] if point.verdict != "not critical" else []
    return sorted(found, key=lambda each: each[1].value)


@dataclass(frozen=True)
class Endings:
    """Where the descents of a picture end.

    Attributes
    ----------
    problem : tuple
        Model, loss, x and y.
    points : list of (ndarray, CriticalPoint)
        The stationary points, by increasing E.
    paths : ndarray
        The paths from all starts, (S, T + 1, 2).
    ends : ndarray
        For each start the index of the minimum where it ends, among the minima by increasing E; -1: at none. (S,).
    """

    problem: Problem
    points: list[tuple[Vector, CriticalPoint]]
    paths: Vector
    ends: npt.NDArray[np.int64]

    def of(self, verdict: str) -> list[tuple[Vector, CriticalPoint]]:
        """Return the stationary points of one kind, by increasing E."""
        return [(w, point) for w, point in self.points if point.verdict == verdict]

    @property
    def counts(self) -> list[int]:
        """The number of starts that end in each minimum."""
        return [int(np.sum(self.ends == i)) for i in range(len(self.of("minimum")))]


def endings(seed: int = 0, starts: int = 100) -> Endings:
    """Find the stationary points of `two_bumps(seed)`, and descend from random starts."""
    problem = two_bumps(seed)
    points = stationary_points(problem)
    paths = descents(problem, np.random.default_rng(seed).uniform(-REACH, REACH, (starts, 2)))
    places = np.array([w for w, point in points if point.verdict == "minimum"])
    distances = np.linalg.norm(paths[:, -1, None] - places, axis=-1)
    return Endings(problem, points, paths, np.where(distances.min(axis=1) < NEAR, distances.argmin(axis=1), -1))


LOOKS = ((BLUE, "o", "-"), (VERMILION, "^", DASHED), (GREEN, "s", ":"))  # of the minima


def minima(path: PathLike) -> None:
    """Draw an error with three minima of two weights: descent from many starts ends in each of them (slides 2-4)."""
    found = endings()
    low, counts = found.of("minimum"), found.counts
    panels = new_axes(True, "gallery", size=(9, 4.9), columns=2)
    _surface(panels[0], found)
    _fits(panels[1], found)
    values = " and ".join(f"{point.value:.2g}" for _, point in low[1:])
    title = (
        f"{counts[0]} of {len(found.ends)} starts end in the global minimum (E = {low[0][1].value:.2g}), "
        f"{sum(counts[1:])} in local ones (E = {values})"
    )
    save(panels[0], path, title=title)


def _surface(axes: Any, found: Endings) -> None:
    """Draw contours, paths and stationary points."""
    floor, top = found.points[0][1].value, max(point.value for _, point in found.points)
    levels = [*np.linspace(floor, top, 8)[1:], *(top * np.array([1.4, 2.0, 2.8]))]
    view = (-REACH - 0.6, REACH + 0.6)
    contours(axes, Objective(*found.problem), view, view, levels=levels, points=61)
    for end, (colour, marker, _) in enumerate(LOOKS):
        paths = found.paths[found.ends == end]
        for each in paths[::3]:
            axes.plot(*each.T, color=colour, lw=0.9, zorder=3)
        axes.plot(*paths[:, 0].T, marker, color=colour, ms=4.5, mec="white", mew=0.5, zorder=4)
    marks = {"saddle": "X", "maximum": "D"}
    for position, point in found.points:
        if point.verdict == "minimum":
            continue
        axes.plot(*position, marks[point.verdict], ms=8, mfc=INK, mec="white", mew=0.8, ls="none", zorder=6)
        _name(axes, position, point.verdict)
    for i, ((position, _), (colour, _, _)) in enumerate(zip(found.of("minimum"), LOOKS, strict=False)):
        star(axes, position, colour=colour)
        _name(axes, position, "local" if i else "global")
    dress(
        axes,
        "contours of E; the starts, and every third path",
        "w₁, bias of unit 1",
        "w₂, bias of unit 2",
        legend=False,
    )
    plain(axes)
    axes.set_aspect("equal")


def _name(axes: Any, position: Vector, name: str) -> None:
    """Write the kind of a point below it."""
    box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75}
    at = {"xytext": (0, -15), "textcoords": "offset points", "ha": "center", "va": "center", "zorder": 7}
    axes.annotate(name, position, color=INK, fontsize=9, bbox=box, **at)


def _fits(axes: Any, found: Endings) -> None:
    """Draw the data, and the network at each minimum."""
    model, _, x, y = found.problem
    axes.plot(x, y, "o", ms=4, mfc="white", mec=INK, label="data: two bumps")
    line = np.linspace(x.min(), x.max(), 201)[:, None]
    objective = Objective(*found.problem)
    for i, ((position, point), (colour, _, style)) in enumerate(zip(found.of("minimum"), LOOKS, strict=False)):
        objective.move(position)
        kind = "local" if i else "global"
        label = f"{kind}, E = {point.value:.2g}: {found.counts[i]} starts"
        axes.plot(line, model.predict(line), color=colour, ls=style, lw=2, label=label)
    axes.set_ylim(top=1.7)
    axes.set_box_aspect(1)
    dress(axes, "the network's one bump at each minimum", "x", "output")


# ------------------------------------------------------------------------------------------------ restarts and widths
WIDTHS = (2, 4, 8, 16, 32, 64, 128)
STARTS = 12


def restarts_of(width: int, *, seed: int = 0, n: int = STARTS, epochs: int = 100) -> Restarts:
    """Train a network of this many tanh units from `n` random starts, on 200 noisy values of a wave in two inputs.

    Parameters
    ----------
    width : int
        Number of hidden units.
    seed : int
        Of the data; the starts have the seeds from 100 times this.
    n : int
        Number of starts.
    epochs : int
        Epochs of five steps each; Adam's rate falls to zero over them.

    Returns
    -------
    Restarts
        The starts, with the errors on the 200 training rows and on 100 validation rows.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (300, 2)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) * np.cos(1.5 * x[:, 1]) + 0.2 * rng.standard_normal(len(x))

    def build(start: int) -> Sequential:
        return Sequential(_core.Dense(2, width), _core.Tanh(), _core.Dense(width, 1), seed=start, device="cpu")

    return restarts(
        build,
        n,
        x[:200],
        y[:200],
        validation=(x[200:], y[200:]),
        loss=_core.MeanSquaredError(),
        optimizer=_core.Adam(lr=cosine(0.05, steps=5 * epochs)),
        seed=100 * seed,
        progress=False,
        epochs=epochs,
        batch_size=40,
    )


def errors(found: Restarts) -> tuple[Vector, Vector]:
    """Return the training errors and the validation errors of all starts, (n,) each."""
    return np.array([start.loss for start in found.starts]), np.array([start.val_loss for start in found.starts])


def restarts_by_width(path: PathLike) -> None:
    """Draw the errors that random starts end at: they differ for small networks, hardly for large ones (slide 12)."""
    found = np.array([errors(restarts_of(width)) for width in WIDTHS])  # (widths, 2, starts)
    spread = found.max(axis=2) / found.min(axis=2)
    left, right = new_axes(True, "gallery", size=(10, 4.2), columns=2)
    looks = ((BLUE, "o", "-", "training", 0.93), (VERMILION, "^", DASHED, "validation", 1.07))
    for i, (colour, marker, style, name, shift) in enumerate(looks):
        at = np.multiply(WIDTHS, shift)
        left.vlines(at, found[:, i].min(axis=1), found[:, i].max(axis=1), color=colour, lw=0.8, ls=style)
        left.plot(np.repeat(at, STARTS), found[:, i].ravel(), marker, color=colour, ms=4, alpha=0.7, label=name)
        right.plot(WIDTHS, spread[:, i], marker=marker, ls=style, color=colour, lw=2, ms=6, label=name)
    for axes in (left, right):
        log_ticks(axes)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xticks(WIDTHS)
        axes.set_xticks([], minor=True)
    left.set_yticks([0.05, 0.1, 0.2])
    right.set_yticks([1, 1.5, 2, 2.5])
    right.set_ylim(0.97, 1.1 * spread.max())
    dress(left, f"{STARTS} starts of each width", "hidden units", "mean squared error at the end")
    dress(right, "the spread", "hidden units", "largest error / smallest")
    worst = int(spread[:, 0].argmax())
    title = (
        f"The largest training error of {STARTS} starts is {spread[worst, 0]:.2g} times the smallest with "
        f"{WIDTHS[worst]} units, {spread[-1, 0]:.3g} times with {WIDTHS[-1]}"
    )
    save(left, path, title=title)
