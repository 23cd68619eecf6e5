"""Pictures of momentum and of the adaptive optimisers: their paths and their step lengths (slides 26-31)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ... import _core
from ...analysis.objective import Objective, Vector
from ...analysis.problems import adam_moments, descend, momentum_steps, quadratic_problem
from ...model import Sequential
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save
from ...trainer import Trainer
from ._surfaces import contours, plain, rotated, star, trace

__all__ = ["adagrad_halts", "adam_bias", "adaptive", "momentum_ravine", "momentum_slope"]

PathLike = str | os.PathLike[str]


RAVINE, MU = (1.0, 40.0), 0.5  # eigenvalues along the ravine and across it; momentum
ADAPTIVE = (1.0, 100.0)  # eigenvalues along and across the valley of the adaptive optimisers


def ravine_paths(start: npt.ArrayLike = (-5.0, 1.0), *, share: float = 0.97, steps: int = 20) -> list[Vector]:
    """Descend in a ravine without and with momentum, at the learning rate `share` · 2/λmax (slides 26-27).

    Parameters
    ----------
    start : array
        Initial weights, along the ravine and across it, (2,).
    share : float
        The learning rate divided by the largest one at which descent without momentum converges.
    steps : int
        Number of steps T.

    Returns
    -------
    list of ndarray
        The paths without and with momentum, (T + 1, 2) each.
    """
    problem, lr = quadratic_problem(RAVINE), share * 2 / max(RAVINE)
    return [descend(problem, each, start, steps) for each in (_core.SGD(lr=lr), _core.Momentum(lr=lr, momentum=MU))]


def momentum_ravine(path: PathLike) -> None:
    """Draw a ravine at η near 2/λmax: plain descent swings across, with momentum that cancels (slides 26-27)."""
    share, steps = 0.97, 20
    panels = new_axes(True, "gallery", size=(7.6, 5), rows=2)
    surface, left = quadratic_problem(RAVINE), []
    looks = (("without momentum", VERMILION, "^"), (f"momentum μ = {MU:g}", BLUE, "o"))
    for axes, points, (name, colour, marker) in zip(panels, ravine_paths(share=share, steps=steps), looks, strict=True):
        along, across = np.abs(points[-1] / points[0])
        left.append(across)
        contours(axes, surface.objective(), (-5.5, 1.5), (-1.35, 1.35))
        trace(axes, points, colour=colour, marker=marker)
        star(axes, surface.minimum)
        head = f"{name}: {across:.1%} of the way across is left, {along:.0%} of that along"
        dress(axes, head, "", "w₂, across", legend=False)
        plain(axes)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("w₁, along the ravine", color=INK)
    title = f"{steps} steps at η = {share:g} · 2/λmax leave {left[0]:.0%} of the swing, with momentum {left[1]:.1%}"
    save(panels[0], path, title=title)


def momentum_slope(path: PathLike) -> None:
    """Draw momentum's steps: they grow to η/(1-μ) on a slope, and stay below η in a ravine (slide 27)."""
    mu, steps = 0.9, 60
    slope, swing = momentum_steps(mu, steps)
    t = np.arange(1, steps + 1)
    axes = new_axes(True, "gallery")
    axes.axhline(1 / (1 - mu), color=INK, lw=0.9, ls=":")
    axes.annotate("η/(1-μ)", (steps, 1 / (1 - mu)), xytext=(0, 4), textcoords="offset points", ha="right", color=INK)
    axes.plot(t, slope, "-o", color=BLUE, ms=3.5, label="constant gradient: a slope")
    axes.plot(t, swing, "-^", color=VERMILION, ms=3.5, label="gradient that alternates: a ravine")
    axes.axhline(1, color=INK, lw=0.9, ls=":")
    axes.annotate("η, without momentum", (steps, 1), xytext=(0, 4), textcoords="offset points", ha="right", color=INK)
    axes.set_ylim(0, 1.15 / (1 - mu))
    title = f"Momentum (μ = {mu:g}) makes steps of {slope[-1]:.1f} η on a slope, of {swing[-1]:.2f} η in a ravine"
    dress(axes, title, "step", "length of the step / (η |gradient|)", legend=False)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="center right")
    save(axes, path)


def adaptive_paths(degrees: float, start: npt.ArrayLike = (-4.0, 0.8), *, steps: int = 30) -> dict[str, Vector]:
    """Descend in a valley at an angle to the axes of the weights with SGD, AdaGrad, RMSProp and Adam (slides 28-31).

    Parameters
    ----------
    degrees : float
        The angle; 0: the valley is along w₁.
    start : array
        Initial point, along the valley and across it, (2,).
    steps : int
        Number of steps T.

    Returns
    -------
    dict of ndarray
        By the optimiser's name, the path of the weights, (T + 1, 2).
    """
    basis = rotated(degrees)
    problem = quadratic_problem(ADAPTIVE, basis)
    runs = (_core.SGD(lr=0.015), _core.AdaGrad(lr=0.6), _core.RMSProp(lr=0.12), _core.Adam(lr=0.2))
    return {type(each).__name__: descend(problem, each, basis @ np.asarray(start), steps) for each in runs}


def way_left(points: Vector) -> float:
    """Return the distance of a path's end from the origin, divided by that of its start."""
    return float(np.linalg.norm(points[-1]) / np.linalg.norm(points[0]))


def adaptive(path: PathLike) -> None:
    """Draw AdaGrad, RMSProp, Adam and SGD: adaptive rates help in a valley along an axis (slides 28-31)."""
    panels = new_axes(True, "gallery", size=(8.6, 5.2), rows=2, columns=4)
    views = (("along an axis", 0, (-4.6, 1.2), (-2.9, 2.9)), ("at 45°", 45, (-4.4, 0.9), (-4.4, 0.9)))
    steps, left = 30, np.empty((2, 4))
    for row, (where, degrees, across, up) in enumerate(views):
        problem = quadratic_problem(ADAPTIVE, rotated(degrees))
        runs = adaptive_paths(degrees, steps=steps).items()
        looks = zip(runs, (INK, GREEN, VERMILION, BLUE), "s^vo", strict=True)
        for column, ((name, points), colour, marker) in enumerate(looks):
            axes = panels[row, column]
            contours(axes, problem.objective(), across, up, levels=7)
            left[row, column] = way_left(points)
            trace(axes, points, colour=colour, marker=marker)
            star(axes, problem.minimum)
            dress(axes, "" if row else name, "w₁" if row else "", "" if column else f"valley {where}\nw₂")
            note = {"transform": axes.transAxes, "ha": "right", "color": INK}
            axes.text(0.96, 0.05, f"{left[row, column]:.0%} of the way left", **note)
            plain(axes)
            axes.set_aspect("equal")
            axes.tick_params(labelleft=not column)
    low, high = left[:, 1:].min(axis=1), left[:, 1:].max(axis=1)
    title = (
        f"{steps} steps with a rate for each weight leave {low[0]:.0%} to {high[0]:.0%} of the way in a valley along "
        f"an axis,\n{low[1]:.0%} to {high[1]:.0%} in one at 45° (SGD: {left[0, 0]:.0%} and {left[1, 0]:.0%})"
    )
    save(panels[0, 0], path, title=title)


@dataclass(frozen=True)
class AdaptiveRun:
    """A run of AdaGrad or RMSProp on an error of one weight.

    Attributes
    ----------
    weights : ndarray
        The weight before the first step and after each, (T + 1,).
    rates : ndarray
        The effective learning rate η/(√r + δ) of each step, (T,).
    """

    weights: Vector
    rates: Vector


def wall_and_floor(seed: int = 0) -> tuple[Objective, float]:
    """Return an error of one weight, a steep wall and then a long gentle floor, and its minimum.

    It is a logistic regression on one input. A fifth of the 200 rows has inputs near 10 and the label 1: these make
    the wall where w < 0. The others have inputs near 0.5, and nine tenths of them the label 1: these make the floor.
    """
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(10, 1, 40), rng.normal(0.5, 0.05, 160)])[:, None]
    y = np.concatenate([np.ones(40), np.arange(160) % 10 > 0]).astype(np.float64)
    model = Sequential(_core.Dense(1, 1, bias=False), seed=0, dtype="float64", device="cpu")
    objective = Objective(model, _core.BinaryCrossEntropy(), x, y)
    w = np.zeros(1)
    for _ in range(50):  # Newton's method
        w = w - objective.gradient(w) / objective.hvp(np.ones(1), w)
    return objective, float(w[0])


def adaptive_run(
    objective: Objective, optimizer: _core.AdaGrad | _core.RMSProp, start: float, steps: int
) -> AdaptiveRun:
    """Train the objective's model of one weight from `start`, with all rows in each step, and record the rates."""
    objective.move([start])
    trainer = Trainer(objective.model, objective.loss, optimizer=optimizer)
    weights, rates = [start], []
    for _ in range(steps):
        trainer.step(objective.x, objective.y)
        (r,) = trainer.core.state().values()
        weights.append(float(objective.point[0]))
        rates.append(float(optimizer.lr) / (float(r[0, 0]) ** 0.5 + optimizer.eps))
    return AdaptiveRun(np.array(weights), np.array(rates))


def adagrad_halts(path: PathLike) -> None:
    """Draw AdaGrad after a steep wall: its r only grows and it nearly halts; RMSProp goes on (slide 30)."""
    objective, minimum = wall_and_floor()
    start, steps, lr = -1.0, 120, 0.1
    panels = new_axes(True, "gallery", size=(10.2, 3.7), columns=3)
    line = np.linspace(start - 0.1, minimum + 1.5, 201)
    panels[0].plot(line, [objective.value([w]) for w in line], color=INK, lw=1.2)
    left, rates = [], []
    for optimizer, name, colour, marker, style in (
        (_core.AdaGrad(lr=lr), "AdaGrad", VERMILION, "^", DASHED),
        (_core.RMSProp(lr=lr), "RMSProp", BLUE, "o", "-"),
    ):
        run = adaptive_run(objective, optimizer, start, steps)
        distance = np.abs(run.weights - minimum) / abs(start - minimum)
        left.append(distance[-1])
        rates.append(run.rates[-1])
        end = run.weights[-1]
        panels[0].plot(end, objective.value([end]), marker, ms=9, mfc=colour, mec="white", label=f"{name}, the end")
        panels[1].plot(np.arange(1, steps + 1), run.rates, color=colour, ls=style, lw=2, label=name)
        panels[2].plot(distance, color=colour, ls=style, lw=2, label=name)
    panels[0].plot(start, objective.value([start]), "o", ms=8, mfc="white", mec=INK, mew=1.5, label="start")
    panels[1].set_yscale("log")
    panels[2].set_ylim(bottom=0)
    dress(panels[0], "a steep wall, a long gentle floor", "w", "E")
    dress(panels[1], "the effective learning rate", "step", "η / (√r + δ)")
    dress(panels[2], "the distance to the minimum", "step", "share of the way left")
    title = (
        f"AdaGrad's rate falls to {rates[0]:.1g} and {left[0]:.0%} of the way is left; RMSProp's rises to "
        f"{rates[1]:.2g}, and {left[1]:.1%} is left"
    )
    save(panels[0], path, title=title)


def adam_bias(path: PathLike) -> None:
    """Draw Adam's running mean: too small at first, corrected by the factor 1/(1-0.9^τ) (slide 31)."""
    steps = 100
    gradients, raw, corrected = adam_moments(steps)
    t = np.arange(1, steps + 1)
    axes = new_axes(True, "gallery")
    axes.plot(t, gradients, ".", color="#b0b0b0", ms=5, label="gradients, of mean 1")
    axes.plot(t, raw, ls=DASHED, color=VERMILION, lw=2, label="s, the running mean as it is")
    axes.plot(t, corrected, color=BLUE, lw=2, label="ŝ = s / (1 - 0.9^τ), what Adam uses")
    for at in (1, 10, 100):
        place = (at, raw[at - 1])
        note = f"×{corrected[at - 1] / raw[at - 1]:.1f}"
        below = at == steps  # where the two curves coincide
        offset = (-4, -16 if below else 9)
        axes.annotate(note, place, xytext=offset, textcoords="offset points", ha="center", color=VERMILION)
        axes.plot(*place, "o", ms=6, mfc="white", mec=VERMILION, mew=1.5, zorder=5)
    axes.set_xscale("log")
    right = int(np.flatnonzero(corrected / raw < 1.01)[0]) + 1
    title = (
        f"Adam's running mean is {corrected[0] / raw[0]:.0f} times too small at step 1, and within 1% from step {right}"
    )
    dress(axes, title, "step τ", "gradient", legend=False)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    save(axes, path)
