"""Pictures of momentum and of the adaptive optimisers: their paths and their step lengths (slides 26-31)."""

from __future__ import annotations

import os

import numpy as np

from ... import _core
from ...analysis.problems import adam_moments, descend, momentum_steps, quadratic_problem
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save
from ._surfaces import contours, plain, rotated, star, trace

__all__ = ["adam_bias", "adaptive", "momentum_ravine", "momentum_slope"]

PathLike = str | os.PathLike[str]


def momentum_ravine(path: PathLike) -> None:
    """Draw a path in a ravine with and without momentum, which goes farther in as many steps (slide 26)."""
    problem = quadratic_problem([1.0, 40.0])
    lr, steps, start = 0.02, 40, (-5.0, 1.0)
    axes = new_axes(True, "gallery", size=(7, 3.6))
    contours(axes, problem.objective(), (-5.5, 1.5), (-1.25, 1.25))
    left = []
    for optimizer, label, colour, marker in (
        (_core.SGD(lr=lr), "without momentum", VERMILION, "^"),
        (_core.Momentum(lr=lr, momentum=0.8), "momentum μ = 0.8", BLUE, "o"),
    ):
        points = descend(problem, optimizer, start, steps)
        left.append(np.linalg.norm(points[-1]) / np.linalg.norm(points[0]))
        trace(axes, points, colour=colour, label=label, marker=marker)
    star(axes, problem.minimum, label="minimum")
    title = f"{steps} steps with the same η: {left[0]:.0%} of the way left without momentum, {left[1]:.0%} with it"
    dress(axes, title, "w₁, along the ravine", "w₂, across it")
    axes.legend(loc="lower right", fontsize=9, framealpha=0.9, edgecolor="none")
    plain(axes)
    save(axes, path)


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


def adaptive(path: PathLike) -> None:
    """Draw AdaGrad, RMSProp, Adam and SGD: adaptive rates help in a valley along an axis (slides 28-31)."""
    runs = (
        (_core.SGD(lr=0.015), "SGD", INK, "s"),
        (_core.AdaGrad(lr=0.6), "AdaGrad", GREEN, "^"),
        (_core.RMSProp(lr=0.12), "RMSProp", VERMILION, "v"),
        (_core.Adam(lr=0.2), "Adam", BLUE, "o"),
    )
    steps, start = 30, np.array([-4.0, 0.8])
    panels = new_axes(True, "gallery", size=(8.6, 5.2), rows=2, columns=4)
    views = (("along an axis", 0, (-4.6, 1.2), (-2.9, 2.9)), ("at 45°", 45, (-4.4, 0.9), (-4.4, 0.9)))
    left = np.empty((2, 4))
    for row, (where, degrees, across, up) in enumerate(views):
        basis = rotated(degrees)
        problem = quadratic_problem([1.0, 100.0], basis)
        for column, (optimizer, name, colour, marker) in enumerate(runs):
            axes = panels[row, column]
            contours(axes, problem.objective(), across, up, levels=7)
            points = descend(problem, optimizer, basis @ start, steps)
            left[row, column] = np.linalg.norm(points[-1]) / np.linalg.norm(start)
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
