"""Pictures of error surfaces and of gradient descent on them: contours, valleys, rates (slides 10 and 22-25)."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from ... import _core
from ...analysis.convergence import convergence_factors
from ...analysis.objective import Objective, Vector
from ...analysis.problems import descend, quadratic_problem, random_rotation
from ...analysis.quadratic import QuadraticModel
from ...analysis.stability import max_stable_lr
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, log_ticks, new_axes, save
from ...trainer import Trainer
from ._surfaces import contours, plain, star, trace

__all__ = ["convergence", "ellipses", "valley"]

PathLike = str | os.PathLike[str]


def logistic_bowl(seed: int = 0) -> tuple[QuadraticModel, Objective]:
    """Train a logistic regression of two weights to its minimum; return the quadratic model there and the error."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, 2)) @ [[1.6, 0.9], [0.0, 0.8]]
    y = (x @ [0.5, 0.8] + rng.logistic(size=60) > 0).astype(np.float64)
    model = Sequential(_core.Dense(2, 1, bias=False), seed=0, dtype="float64", device="cpu")
    problem = (model, _core.BinaryCrossEntropy(), x, y)
    trainer = Trainer(model, problem[1], optimizer=_core.Momentum(lr=0.5, momentum=0.9))
    trainer.fit(x, y, epochs=500, batch_size=None)
    return QuadraticModel(*problem), Objective(*problem)


def ellipse(surface: QuadraticModel, objective: Objective, level: float) -> tuple[Vector, float]:
    """Return the predicted contour E = E(w*) + `level`, (2, 200), and the largest error of the rise, relative to it."""
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = surface.semi_axes(level)[:, None] * [np.cos(turn), np.sin(turn)]
    ring = surface.minimum[:, None] + surface.eigenvectors @ circle
    return ring, max(abs(objective.value(w) - surface.value - level) / level for w in ring.T)


def ellipses(path: PathLike) -> None:
    """Draw contours near a minimum: ellipses along the Hessian's eigenvectors (slide 10)."""
    surface, objective = logistic_bowl()
    levels, centre = (0.002, 0.01, 0.03, 0.06), surface.minimum
    axes = new_axes(True, "gallery", size=(7.2, 5.8))
    heights = [surface.value + level for level in levels]
    view = (centre[0] - 1.6, centre[0] + 1.6), (centre[1] - 1.25, centre[1] + 1.25)
    contours(axes, objective, *view, levels=heights, points=81, colour=INK)
    wrong = []
    for level in levels:
        ring, error = ellipse(surface, objective, level)
        wrong.append(error)
        axes.plot(*ring, color=BLUE, ls=DASHED, lw=1.8)
    axes.plot([], [], color=BLUE, ls=DASHED, label="ellipses of semi-axes √(2C/λ)")
    axes.plot([], [], color=INK, lw=0.8, label="contours E = E(w*) + C")
    axis = zip(surface.eigenvalues, surface.eigenvectors.T, surface.semi_axes(levels[2]), strict=True)
    for (value, vector, reach), colour in zip(axis, (GREEN, VERMILION), strict=True):
        axes.annotate("", centre + reach * vector, centre, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})
        box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
        look = {"color": colour, "ha": "center", "va": "center", "fontsize": 10, "bbox": box, "zorder": 6}
        axes.annotate(f"λ = {value:.2g}", centre + (reach + 0.13) * vector, **look)
    star(axes, centre)
    title = (
        f"On the smallest predicted ellipse E - E(w*) is C within {wrong[0]:.0%}, on the largest within {wrong[-1]:.0%}"
    )
    dress(axes, title, "w₁", "w₂", legend=False)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    plain(axes)
    axes.set_aspect("equal")
    save(axes, path)


VALLEY, SHARES = (1.0, 25.0), (0.1, 0.95, 1.03)  # eigenvalues; learning rates divided by 2/λmax


def valley_paths(start: npt.ArrayLike = (-5.0, 0.7), *, steps: int = 20) -> list[Vector]:
    """Descend in a narrow valley with each of the learning rates; return the paths, (T + 1, 2) each (slide 22)."""
    problem, limit = quadratic_problem(VALLEY), 2 / max(VALLEY)
    return [descend(problem, _core.SGD(lr=share * limit), start, steps) for share in SHARES]


def valley(path: PathLike) -> None:
    """Draw paths in a narrow valley: a small learning rate is slow, a large one oscillates or diverges (slide 22)."""
    problem, steps, left = quadratic_problem(VALLEY), 20, []
    panels = new_axes(True, "gallery", size=(7.6, 5.8), rows=3)
    looks = zip(SHARES, ("crawls", "swings", "diverges"), (BLUE, GREEN, VERMILION), strict=True)
    for axes, points, (share, verb, colour) in zip(panels, valley_paths(steps=steps), looks, strict=True):
        along, across = np.abs(points[-1] / points[0])
        left.append(along)
        contours(axes, problem.objective(), (-5.6, 1.2), (-1.6, 1.6), levels=7)
        trace(axes, points, colour=colour)
        star(axes, problem.minimum)
        head = f"η = {share:g} · 2/λmax {verb}: {along:.0%} of the way along is left, {across:.0%} of that across"
        dress(axes, head, "", "w₂", legend=False)
        plain(axes)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("w₁", color=INK)
    title = (
        f"{steps} steps leave {left[0]:.0%} of the way at η = {SHARES[0]:g} · 2/λmax, {left[1]:.0%} at {SHARES[1]:g}; "
        f"{SHARES[2]:g} diverges"
    )
    save(panels[0], path, title=title)


LR = 0.1  # of the picture of convergence


def shrinking(seed: int = 0, *, steps: int = 40) -> tuple[Vector, Vector, Vector]:
    """Descend on a surface of three eigenvalues in a random basis, from α(0) = (1, 1, 1) (slides 23-24).

    Returns
    -------
    tuple of ndarray
        1 - ηλ, (3,); |α(T)| as measured, and as predicted by (1 - ηλ)^T α(0): (steps + 1, 3) each.
    """
    problem = quadratic_problem([1.0, 4.0, 18.0], random_rotation(3, np.random.default_rng(seed)))
    points = descend(problem, _core.SGD(lr=LR), problem.basis.sum(axis=1), steps)
    rates = convergence_factors(problem.model(points[0]), _core.MeanSquaredError(), problem.x, problem.y, LR)
    predicted = rates.predict(np.ones(3), np.arange(steps + 1))
    return rates.factors, np.abs(problem.coordinates(points)), np.abs(predicted)


def steps_to(share: float, condition: float) -> int:
    """Return the steps until this share of the way along the flattest direction is left, at η = 2/λmax (slide 25)."""
    problem = quadratic_problem([1.0, condition])
    limit = max_stable_lr(problem.model([1.0, 1.0]), _core.MeanSquaredError(), problem.x, problem.y)
    points = descend(problem, _core.SGD(lr=limit), [1.0, 1.0], int(-np.log(share) * condition))
    return int(np.argmax(points[:, 0] <= share))


def convergence(path: PathLike) -> None:
    """Draw the distance along each eigenvector: it shrinks by its own factor |1 - ηλ| a step (slides 23-25)."""
    steps = 40
    factors, measured, predicted = shrinking(steps=steps)
    left, right = new_axes(True, "gallery", size=(10, 4.2), columns=2)
    t = np.arange(steps + 1)
    for i, (colour, marker) in enumerate(zip((BLUE, GREEN, VERMILION), "os^", strict=True)):
        left.plot(t, predicted[:, i], color=colour, lw=1.5)
        label = f"λ = {(1 - factors[i]) / LR:g}: 1 - ηλ = {factors[i]:.1f}"
        left.plot(t[::2], measured[::2, i], marker, ms=5, mfc="white", mec=colour, label=label)
    left.set_yscale("log")
    dress(left, "lines: |1 - ηλ|^T; points: measured", "step T", "distance along the eigenvector, |α(T)|")
    share, conditions = 0.01, np.array([3, 5, 10, 20, 50, 100, 200])
    counts = np.array([steps_to(share, condition) for condition in conditions])
    line = np.geomspace(3, 200, 50)
    right.plot(line, np.log(share) / np.log(1 - 2 / line), color=BLUE, label="(1 - 2λmin/λmax)^T = 0.01")
    right.plot(conditions, counts, "o", ms=6, mfc="white", mec=BLUE, label="measured")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    log_ticks(right)
    dress(right, f"steps to {share:.0%} along the flattest direction, η = 2/λmax", "λmax/λmin", "steps")
    title = (
        f"α(T) is (1 - ηλ)^T α(0) within {np.abs(measured / predicted - 1).max():.0e}; the flattest direction takes "
        f"{counts[-1]} steps if λmax/λmin = {conditions[-1]}"
    )
    save(left, path, title=title)
