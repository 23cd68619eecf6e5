"""Pictures of error surfaces and of gradient descent on them: contours, valleys, rates (slides 9-10 and 22-25)."""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.convergence import convergence_factors
from ...analysis.objective import Objective
from ...analysis.problems import descend, quadratic_problem, random_rotation
from ...analysis.quadratic import QuadraticModel
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save
from ...trainer import Trainer
from ._surfaces import contours, plain, star, trace

__all__ = ["convergence", "ellipses", "valley"]

PathLike = str | os.PathLike[str]


def ellipses(path: PathLike) -> None:
    """Draw contours near a minimum: ellipses along the Hessian's eigenvectors (slides 9-10)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2)) @ [[1.6, 0.9], [0.0, 0.8]]
    y = (x @ [0.5, 0.8] + rng.logistic(size=60) > 0).astype(np.float64)
    model = Sequential(_core.Dense(2, 1, bias=False), seed=0, dtype="float64", device="cpu")
    problem = (model, _core.BinaryCrossEntropy(), x, y)
    trainer = Trainer(model, problem[1], optimizer=_core.Momentum(lr=0.5, momentum=0.9))
    trainer.fit(x, y, epochs=500, batch_size=None)
    surface, objective = QuadraticModel(*problem), Objective(*problem)
    levels, centre, turn = (0.002, 0.01, 0.03, 0.08), surface.minimum, np.linspace(0, 2 * np.pi, 200)
    axes = new_axes(True, "gallery", size=(7, 5))
    heights = [surface.value + level for level in levels]
    view = (centre[0] - 1.5, centre[0] + 1.5), (centre[1] - 1.05, centre[1] + 1.05)
    contours(axes, objective, *view, levels=heights, points=121, colour=INK)
    wrong = []
    for level in levels:
        circle = surface.semi_axes(level)[:, None] * [np.cos(turn), np.sin(turn)]
        ring = centre[:, None] + surface.eigenvectors @ circle
        wrong.append(max(abs(objective.value(w) - surface.value - level) / level for w in ring.T))
        axes.plot(*ring, color=BLUE, ls=DASHED, lw=1.8)
    axes.plot([], [], color=BLUE, ls=DASHED, label="ellipses of semi-axes √(2C/λ)")
    axes.plot([], [], color=INK, lw=0.8, label="contours E = E(w*) + C")
    axis = zip(surface.eigenvalues, surface.eigenvectors.T, surface.semi_axes(levels[2]), strict=True)
    for (value, vector, reach), colour in zip(axis, (GREEN, VERMILION), strict=True):
        axes.annotate("", centre + reach * vector, centre, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})
        place = centre + (reach + 0.13) * vector
        axes.annotate(f"λ = {value:.2g}", place, color=colour, ha="center", va="center", fontsize=10)
    star(axes, centre)
    title = f"Ellipses of the Hessian: E is right within {wrong[0]:.0%} on the smallest, {wrong[-1]:.0%} on the largest"
    dress(axes, title, "w₁", "w₂", legend=False)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    plain(axes)
    axes.set_aspect("equal")
    save(axes, path)


def valley(path: PathLike) -> None:
    """Draw paths in a narrow valley: a small learning rate is slow, a large one oscillates or diverges (slide 22)."""
    problem = quadratic_problem([1.0, 25.0])
    limit, steps, start = 2 / problem.eigenvalues[-1], 20, (-5.0, 0.7)
    panels = new_axes(True, "gallery", size=(7, 5.6), rows=3)
    looks = zip((0.1, 0.95, 1.03), ("crawls", "bounces", "diverges"), (BLUE, GREEN, VERMILION), strict=True)
    for axes, (share, verb, colour) in zip(panels, looks, strict=True):
        points = descend(problem, _core.SGD(lr=share * limit), start, steps)
        along, across = np.abs(points[-1] / points[0])
        contours(axes, problem.objective(), (-5.6, 1.2), (-1.6, 1.6), levels=7)
        trace(axes, points, colour=colour)
        star(axes, problem.minimum)
        head = f"η = {share:g} · 2/λmax {verb}: {along:.0%} of the way along is left, {across:.0%} of that across"
        dress(axes, head, "", "w₂", legend=False)
        plain(axes)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("w₁")
    save(panels[0], path, title=f"{steps} steps in a valley of condition number 25: what the learning rate does")


def convergence(path: PathLike) -> None:
    """Draw the distance along each eigenvector: it shrinks by its own factor |1 - ηλ| a step (slides 23-25)."""
    problem = quadratic_problem([1.0, 4.0, 18.0], random_rotation(3, np.random.default_rng(0)))
    lr, steps = 0.1, 40
    points = descend(problem, _core.SGD(lr=lr), problem.basis.sum(axis=1), steps)
    measured = np.abs(problem.coordinates(points))
    rates = convergence_factors(problem.model(points[0]), _core.MeanSquaredError(), problem.x, problem.y, lr)
    predicted = np.abs(rates.predict(np.ones(3), np.arange(steps + 1)))
    axes = new_axes(True, "gallery")
    t = np.arange(steps + 1)
    for i, (colour, marker) in enumerate(zip((BLUE, GREEN, VERMILION), "os^", strict=True)):
        axes.plot(t, predicted[:, i], color=colour, lw=1.5)
        label = f"λ = {problem.eigenvalues[i]:g}: 1 - ηλ = {rates.factors[i]:.1f}"
        axes.plot(t[::2], measured[::2, i], marker, ms=5, mfc="white", mec=colour, label=label)
    axes.set_yscale("log")
    title = "Each direction shrinks by its own factor |1 - ηλ|: lines predicted, points measured"
    dress(axes, title, "step T", "distance along the eigenvector, |α(T)|")
    save(axes, path)
