"""Pictures of methods against fitting noise: weight decay and early stopping (slides 42-50)."""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.objective import Vector
from ...analysis.problems import QuadraticProblem, descend, quadratic_problem
from ...callbacks import EarlyStopping
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, INK, VERMILION, dress, new_axes, save
from ...standardizer import Standardizer
from ...trainer import Trainer
from ._surfaces import contours, plain, rotated, star

__all__ = ["early_stopping", "learning_curve", "weight_decay"]

PathLike = str | os.PathLike[str]


def bowl() -> QuadraticProblem:
    """Return a surface with a flat and a steep direction, its minimum off the origin in both."""
    basis = rotated(-30)
    return quadratic_problem([0.5, 8.0], basis, minimum=basis @ [2.0, 1.2])


def decayed(problem: QuadraticProblem, strength: float) -> Vector:
    """Return the end point of training with weight decay: the minimum of E + λ/2 wᵀw, (n,)."""
    steepest = problem.eigenvalues.max() + strength
    optimizer = _core.SGD(lr=1 / steepest, weight_decay=strength)
    return np.asarray(descend(problem, optimizer, np.zeros_like(problem.minimum), 500)[-1])


def weight_decay(path: PathLike) -> None:
    """Draw how weight decay moves the minimum: far along flat directions, little along steep ones (slides 42-43)."""
    problem, strength = bowl(), 2.0
    line = np.array([decayed(problem, value) for value in np.geomspace(0.01, 300, 25)])
    end = decayed(problem, strength)
    flat, steep = np.abs((end @ problem.basis) / (problem.minimum @ problem.basis))
    axes = new_axes(True, "gallery", size=(7, 4.6))
    contours(axes, problem.objective(), (-1.25, 3.25), (-1.2, 1.6), levels=10, through=end)
    axes.plot(*line.T, "-", color=BLUE, lw=2, label="minimum with weight decay, λ from 0 to ∞")
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.linalg.norm(end) * np.array([np.cos(turn), np.sin(turn)])
    axes.plot(*circle, ls=DASHED, color=VERMILION, lw=1.5, label="wᵀw is the same on this circle")
    axes.plot(*end, "o", ms=9, mfc="white", mec=BLUE, mew=2, zorder=5, label=f"minimum with λ = {strength:g}")
    star(axes, problem.minimum, label="minimum w* of E alone")
    axes.plot(0, 0, "+", ms=11, mew=2, color=INK)
    axes.annotate("w = 0", (0, 0), xytext=(-8, -16), textcoords="offset points", color=INK)
    title = f"λ = {strength:g} keeps {steep:.0%} of w* along the steep direction and {flat:.0%} along the flat one"
    dress(axes, title, "w₁", "w₂", legend=False)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    plain(axes)
    axes.set_aspect("equal")
    save(axes, path)


def early_stopping(path: PathLike) -> None:
    """Draw the path of descent and the minima of weight decay: stopping at T is like λ = 1/(ηT) (slide 50)."""
    problem, lr = bowl(), 0.05
    points = descend(problem, _core.SGD(lr=lr), [0.0, 0.0], 400)
    stops = [2, 5, 10, 20, 40, 80, 160]
    partners = np.array([decayed(problem, 1 / (lr * stop)) for stop in stops])
    gap = np.linalg.norm(points[stops] - partners, axis=1).max() / np.linalg.norm(problem.minimum)
    line = np.array([decayed(problem, value) for value in np.geomspace(0.01, 300, 25)])
    axes = new_axes(True, "gallery", size=(7, 4.6))
    contours(axes, problem.objective(), (-0.3, 2.8), (-0.6, 1.25), levels=10)
    axes.plot(*points.T, "-", color=BLUE, lw=2, label="gradient descent from w = 0")
    axes.plot(*line.T, ls=DASHED, color=VERMILION, lw=2, label="minimum with weight decay λ")
    for stop, point, partner in zip(stops, points[stops], partners, strict=True):
        axes.plot(*np.array([point, partner]).T, "-", color=INK, lw=0.9)
        if stop <= 40:
            text = f"T = {stop}, λ = {1 / (lr * stop):g}"
            right = stop > 5
            axes.annotate(
                text, point, xytext=(4 if right else -8, 8), textcoords="offset points", ha="left" if right else "right"
            )
    axes.plot(*points[stops].T, "o", ms=6, mfc="white", mec=BLUE, mew=1.8, zorder=5)
    axes.plot(*partners.T, "^", ms=6, mfc="white", mec=VERMILION, mew=1.8, zorder=5)
    star(axes, problem.minimum, label="minimum w*")
    title = f"Stopped at step T, descent is within {gap:.0%} of |w*| of the minimum with λ = 1/(ηT)"
    dress(axes, title, "w₁", "w₂", legend=False)
    axes.legend(loc="lower left", fontsize=9, framealpha=0.9, edgecolor="none")
    plain(axes)
    axes.set_aspect("equal")
    save(axes, path)


def learning_curve(path: PathLike) -> None:
    """Draw learning curves: the training error keeps falling, the validation error rises again (slides 48-49)."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (325, 1))
    y = np.sin(4 * x) + 0.4 * rng.standard_normal(x.shape)
    wide = (_core.Dense(1, 100), _core.Tanh(), _core.Dense(100, 100), _core.Tanh(), _core.Dense(100, 1))
    model = Sequential(Standardizer().fit(x[:25]), *wide, seed=0, device="cpu")
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=_core.Adam(lr=1e-3))
    stop = EarlyStopping(patience=500)
    held = (x[25:], y[25:])
    history = trainer.fit(x[:25], y[:25], epochs=3000, batch_size=None, validation=held, callbacks=[stop])
    history.plot(path)
