"""Pictures of methods against fitting noise: weight decay and early stopping (slides 42-50).

A function that computes takes the seed of its data; the function below it draws.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import _core
from ...analysis.convergence import convergence_factors
from ...analysis.objective import Objective, Vector
from ...analysis.problems import QuadraticProblem, descend, quadratic_problem, random_rotation
from ...analysis.quadratic import QuadraticModel
from ...callbacks import EarlyStopping
from ...history import History
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, INK, VERMILION, dress, log_ticks, new_axes, save
from ...standardizer import Standardizer
from ...trainer import Trainer
from ...tuning.weight_decay import consistent_weight_decay, transform_network
from ._surfaces import contours, plain, rotated, star

__all__ = ["consistent_decay", "early_stopping", "effective_parameters", "learning_curve", "weight_decay"]

PathLike = str | os.PathLike[str]


def bowl() -> QuadraticProblem:
    """Return a surface with a flat and a steep direction, its minimum off the origin in both."""
    basis = rotated(-30)
    return quadratic_problem([0.5, 8.0], basis, minimum=basis @ [2.0, 1.2])


def decayed(problem: QuadraticProblem, strength: float) -> Vector:
    """Return the end point of training from 0 with weight decay: the minimum of E + λ/2 wᵀw, (n,)."""
    surface = QuadraticModel(problem.objective(strength))
    best = convergence_factors(surface, lr=1.0)
    optimizer = _core.Momentum(best.best_momentum_lr, best.best_momentum, weight_decay=strength)
    return np.asarray(descend(problem, optimizer, np.zeros_like(problem.minimum), 500)[-1])


def shares(problem: QuadraticProblem, w: Vector) -> Vector:
    """Return the points' coordinates along the eigenvectors as shares of those of w*, in the shape of `w`: (..., n)."""
    return np.asarray((w @ problem.basis) / (problem.minimum @ problem.basis))


def weight_decay(path: PathLike) -> None:
    """Draw E, E + λ/2 wᵀw and their minima: decay keeps w* along steep directions, not flat ones (slides 42-43)."""
    problem, strength = bowl(), 2.0
    end = decayed(problem, strength)
    flat, steep = shares(problem, end)
    panels = new_axes(True, "gallery", size=(10.5, 4.1), columns=3)
    for axes, decay, name in ((panels[0], 0.0, "E"), (panels[1], strength, f"E + λ/2 wᵀw, λ = {strength:g}")):
        contours(axes, problem.objective(decay), (-1.0, 3.0), (-2.0, 2.0), levels=10)
        axes.plot(0, 0, "+", ms=11, mew=2, color=INK)
        axes.annotate("w = 0", (0, 0), xytext=(-42, -4), textcoords="offset points", color=INK)
        star(axes, problem.minimum, label="minimum w* of E")
        label = f"minimum with λ = {strength:g}"
        axes.plot(*end, "o", ms=9, mfc="white", mec=BLUE, mew=2, ls="none", zorder=6, label=label)
        dress(axes, name, "w₁", "w₂" if decay == 0 else "", legend=False)
        plain(axes)
        axes.set_aspect("equal")
    panels[1].plot([], [], color=INK, lw=1.2, ls=DASHED, label="parts of w* along u₁, u₂")
    panels[1].plot([], [], color=INK, lw=3.5, label="what remains of them")
    for axes, first in ((panels[0], 0), (panels[1], 2)):
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[first:], labels[first:], loc="lower left", fontsize=9, framealpha=0.9, edgecolor="none")
    for whole, part, direction, colour in zip(
        problem.minimum @ problem.basis, end @ problem.basis, problem.basis.T, (VERMILION, BLUE), strict=True
    ):
        panels[1].plot(*np.outer(direction, [0, whole]), color=colour, lw=1.2, ls=DASHED, zorder=3)
        panels[1].plot(*np.outer(direction, [0, part]), color=colour, lw=3.5, zorder=5, solid_capstyle="butt")
    _kept(panels[2], problem, strength)
    title = (
        f"Weight decay λ = {strength:g} keeps {steep:.0%} of w* along the steep direction "
        f"(λ₂ = {problem.eigenvalues[1]:g}), {flat:.0%} along the flat one (λ₁ = {problem.eigenvalues[0]:g})"
    )
    save(panels[0], path, title=title)


def _kept(axes: Any, problem: QuadraticProblem, marked: float) -> None:
    """Draw the shares that remain of w* against λ: those of trained weights, and the formula."""
    strengths = np.geomspace(0.01, 1000, 11)
    measured = np.array([shares(problem, decayed(problem, value)) for value in strengths])
    fine = np.geomspace(strengths[0], strengths[-1], 200)
    for i, (colour, marker, style, name) in enumerate(((VERMILION, "^", DASHED, "flat"), (BLUE, "o", "-", "steep"))):
        value = problem.eigenvalues[i]
        axes.plot(fine, value / (value + fine), color=colour, ls=style, lw=1.5)
        axes.plot(strengths, measured[:, i], marker, color=colour, ms=5.5, label=f"{name}: λ{'₁₂'[i]} = {value:g}")
    axes.plot([], [], color=INK, lw=1.2, label="λᵢ / (λᵢ + λ)")
    axes.axvline(marked, color=INK, lw=0.9, ls=":")
    axes.set_xscale("log")
    axes.set_box_aspect(1)
    dress(axes, "what remains of w*", "weight decay λ", "", legend=True)


@dataclass(frozen=True)
class Units:
    """Networks trained on a x for several scales a.

    Attributes
    ----------
    x, y : ndarray
        The data for a = 1, (N,).
    grid : ndarray
        Inputs in the units of `x`, (G,).
    plain, consistent : dict
        The predictions (G,) on the grid for each a: with one λ for all parameters, and with consistent λ.
    steepness : float
        The largest norm of the gradient of the loss with its penalty after training, relative to that before it.
    """

    x: Vector
    y: Vector
    grid: Vector
    plain: dict[float, Vector]
    consistent: dict[float, Vector]
    steepness: float

    def differences(self, kind: str) -> dict[float, float]:
        """Return for each a the root mean square difference to a = 1, relative to the range of the latter."""
        fits: dict[float, Vector] = getattr(self, kind)
        first = fits[1.0]
        return {a: float(np.sqrt(np.mean((fit - first) ** 2)) / np.ptp(first)) for a, fit in fits.items()}


def trained_in_units(scales: Sequence[float], seed: int = 0, *, decay: float = 0.02, steps: int = 20_000) -> Units:
    """Train a tanh network on a x for each scale a, 1 included, with plain and with consistent weight decay.

    Plain decay is one λ for all parameters, biases included, as ``weight_decay`` of PyTorch's optimisers. Each run
    starts at the network that computes the same function of a x. The rate of the first weights is a⁻² times that of the
    others, so that all runs converge alike; the minimum does not depend on rates.
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-1, 1, (16, 1)), axis=0)
    y = np.sin(4 * x) + 0.3 * rng.standard_normal(x.shape)
    grid, loss = np.linspace(-1.2, 1.2, 121)[:, None], _core.MeanSquaredError()
    start = Sequential(_core.Dense(1, 6), _core.Tanh(), _core.Dense(6, 1), seed=seed, dtype="float64", device="cpu")
    fits: dict[str, dict[float, Vector]] = {"plain": {}, "consistent": {}}
    left = []
    for kind, found in fits.items():
        for a in scales:
            plain = {"weight_decay": decay, "decay_biases": True}
            options = plain if kind == "plain" else {"weight_decay": consistent_weight_decay(start, decay, x_scale=a)}
            model = transform_network(start, x_scale=a)
            optimizer = _core.Momentum(0.1, 0.9, lr_factors={"layers.0.weight": a**-2}, **options)
            objective, trainer = Objective(model, loss, a * x, y, **options), Trainer(model, loss, optimizer=optimizer)
            before = np.linalg.norm(objective.gradient())
            for _ in range(steps):
                trainer.step(objective.x, objective.y)
            left.append(float(np.linalg.norm(objective.gradient()) / before))
            found[a] = model.predict(a * grid).ravel()
    return Units(x.ravel(), y.ravel(), grid.ravel(), fits["plain"], fits["consistent"], max(left))


def consistent_decay(path: PathLike) -> None:
    """Draw fits in other units of x: consistent weight decay leaves them alone, plain decay does not (slides 44-46)."""
    shown = {1.0: ("#b0b0b0", "-", 5), 0.2: (VERMILION, DASHED, 2.5), 5.0: (BLUE, ":", 2.5)}
    units = trained_in_units((0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
    panels = new_axes(True, "gallery", size=(10.5, 4.1), columns=3)
    names, ends = {"plain": "plain: one λ, biases too", "consistent": "consistent λ, no biases"}, {}
    for axes, (kind, name) in zip(panels, names.items(), strict=False):
        axes.plot(units.x, units.y, ".", color=INK, ms=6)
        for a, (colour, style, width) in shown.items():
            axes.plot(
                units.grid,
                getattr(units, kind)[a],
                color=colour,
                ls=style,
                lw=width,
                label=f"x' = {a:g} x" if a != 1.0 else "x' = x",
            )
        axes.set_ylim(-1.2, 2.2)
        axes.set_box_aspect(1)
        dress(axes, name, "x", "prediction" if kind == "plain" else "", legend=kind == "plain")
    for kind, colour, marker, style in (("plain", VERMILION, "^", DASHED), ("consistent", BLUE, "o", "-")):
        found = units.differences(kind)
        panels[2].plot(*zip(*found.items(), strict=True), marker, ls=style, color=colour, ms=6, label=names[kind])
        ends[kind] = [value for a, value in found.items() if a != 1.0]
    log_ticks(panels[2])
    panels[2].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[2].set_ylim(-0.02, 1.3 * max(ends["plain"]))
    panels[2].set_box_aspect(1)
    dress(panels[2], "difference from the fit at a = 1", "scale a, x' = a x", "share of the fit's range")
    least, most, worst = min(ends["plain"]), max(ends["plain"]), max(ends["consistent"])
    title = (
        f"x in other units: plain weight decay changes the trained function by {least:.0%} to {most:.0%} of its "
        f"range,\nconsistent weight decay by at most {worst:.0e} of it"
    )
    save(panels[0], path, title=title)


@dataclass(frozen=True)
class Growth:
    """Shares of w* that runs on a quadratic surface have reached.

    Attributes
    ----------
    times : ndarray
        T, (S,).
    eigenvalues : ndarray
        λ_i, (n,).
    stopped, decayed : ndarray
        The share of each coordinate of w* after T steps from 0, and at the end of training with λ = 1/(ηT): (S, n). A
        row's sum is the effective number of parameters.
    lr : float
        η.
    """

    times: Vector
    eigenvalues: Vector
    stopped: Vector
    decayed: Vector
    lr: float


def growing_parameters(seed: int = 0, *, directions: int = 20) -> Growth:
    """Train on a quadratic surface of random axes and minimum, stopped after T steps and with decay 1/(ηT)."""
    rng, lr = np.random.default_rng(seed), 0.05
    values = np.geomspace(0.01, 10.0, directions)
    basis = random_rotation(directions, rng)
    problem = quadratic_problem(values, basis, minimum=basis @ rng.choice([-1.0, 1.0], directions))
    times = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
    points = descend(problem, _core.SGD(lr), np.zeros(directions), times[-1])[times]
    ends = np.array([decayed(problem, 1 / (lr * stop)) for stop in times])
    return Growth(times, values, shares(problem, points), shares(problem, ends), lr)


def effective_parameters(path: PathLike) -> None:
    """Draw the effective number of parameters: it grows with the steps of training T (slide 50)."""
    growth = growing_parameters()
    n, at, lr = len(growth.eigenvalues), 4, growth.lr
    panels = new_axes(True, "gallery", size=(9.6, 4.2), columns=2)
    steps = np.geomspace(growth.times[0], growth.times[-1], 200)[:, None]
    fine = np.geomspace(growth.eigenvalues[0], growth.eigenvalues[-1], 200)
    marked = 1 / (lr * growth.times[at])
    for stopped, colour, marker, style, label in (
        (True, BLUE, "o", "-", "stopped after T steps"),
        (False, VERMILION, "^", DASHED, "to the end with λ = 1/(ηT)"),
    ):

        def formula(values: Any, count: Any, stopped: bool = stopped) -> Vector:
            return np.asarray(1 - (1 - lr * values) ** count if stopped else values / (values + 1 / (lr * count)))

        measured = growth.stopped if stopped else growth.decayed
        look: dict[str, Any] = {"color": colour, "ms": 6, "label": label}
        panels[0].plot(steps[:, 0], formula(growth.eigenvalues, steps).sum(axis=1), color=colour, ls=style, lw=1.3)
        panels[0].plot(growth.times, measured.sum(axis=1), marker, **look)
        panels[1].plot(fine, formula(fine, growth.times[at]), color=colour, ls=style, lw=1.3)
        panels[1].plot(growth.eigenvalues, measured[at], marker, **look)
    for axes in panels:
        axes.plot([], [], color=INK, lw=1.3, label="lines: formulas")
        axes.set_xscale("log")
    panels[0].set_ylim(0, 1.05 * n)
    panels[0].yaxis.get_major_locator().set_params(integer=True)
    panels[1].axvline(marked, color=INK, lw=0.9, ls=":")
    panels[1].annotate("1/(ηT)", (marked, 0), xytext=(4, 2), textcoords="offset points", color=INK)
    dress(panels[0], "all directions: sum of the shares", "steps T", f"effective number of parameters, of {n}")
    dress(panels[1], f"each direction at T = {growth.times[at]}", "eigenvalue λᵢ", "share of w* reached", legend=False)
    counts = growth.stopped.sum(axis=1)
    gap = (counts - growth.decayed.sum(axis=1)).max()
    title = (
        f"The effective number of parameters grows from {counts[0]:.1f} of {n} after {growth.times[0]} step to "
        f"{counts[-1]:.1f} after {growth.times[-1]:,} steps;\nwith weight decay 1/(ηT) instead, it is at most "
        f"{gap:.1f} smaller"
    )
    save(panels[0], path, title=title)


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


def learning_run(seed: int = 2, *, patience: int = 1000) -> tuple[History, Sequential, Any]:
    """Train a network on 20 noisy rows with early stopping; return its history, the model and the validation data."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (320, 1))
    y = np.sin(4 * x) + 0.5 * rng.standard_normal(x.shape)
    wide = (_core.Dense(1, 100), _core.Tanh(), _core.Dense(100, 100), _core.Tanh(), _core.Dense(100, 1))
    model = Sequential(Standardizer().fit(x[:20]), *wide, seed=seed, device="cpu")
    trainer = Trainer(model, _core.MeanSquaredError(), optimizer=_core.Momentum(lr=0.01))
    stop, held = EarlyStopping(patience=patience), (x[20:], y[20:])
    history = trainer.fit(x[:20], y[:20], epochs=3000, batch_size=None, validation=held, callbacks=[stop])
    return history, model, held


def learning_curve(path: PathLike) -> None:
    """Draw learning curves: the training error keeps falling, the validation error rises again (slides 48-49)."""
    history = learning_run()[0]
    axes: Any = history.plot(path)
    falls, measured = np.mean(np.diff(history["loss"]) < 0), np.array(history["val_loss"])
    rise = measured[-1] / measured.min() - 1
    title = (
        f"Training error falls in {falls:.0%} of the epochs; validation error is lowest in epoch "
        f"{history.best_epoch()},\nand {rise:.0%} higher at the end: stop where it is lowest"
    )
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=12)
    save(axes, path)
