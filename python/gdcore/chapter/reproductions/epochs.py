"""Reproduction 5: epoch-wise double descent on linear features of different scales, and its removal.

Linear regression on independent Gaussian features of standard deviations s_i, targets y = xᵀθ + noise of standard
deviation σ, gradient descent from zero with a step size η_i for each feature. Heckel & Yilmaz (2020) show that the
excess risk after k steps is close to this, where there are many more rows n than features:

    Σ_i s_i² θ_i² (1 - η_i s_i²)^2k + (σ²/n) Σ_i (1 - (1 - η_i s_i²)^k)²:

the bias of each feature falls and its variance rises: a U. Features of equal scale do so at the same time; two
groups of very different scales give two U's one after the other, and a bump of the risk between them. Step sizes that
align the U's remove it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core
from ...experiments import DoubleDescent, run_sweep
from ...experiments._train import log_spaced
from ...experiments.descent import SIZE
from ...experiments.linear import gradient_descent
from ...plotting.figures import BLUE, DASHED, INK, VERMILION, dress, log_ticks, new_axes, save
from ...table import Table
from ...tuning.store import Point
from ._result import Reproduction, figure_path

__all__ = ["Problem", "run"]

Vector = npt.NDArray[np.float64]

ONE, SCALED = "one step size", "scaled step sizes"

NOTES = (
    "Setting: {rows:,} rows; {features} features of standard deviation {fast:g} and {features} of {slow:g}; noise σ = "
    "{noise:g}; θ such that a feature of the first group carries {signal_fast:g}, one of the second {signal_slow:g} "
    "times the variance σ²/n that fitting it costs; step size {lr:g} for all. *measured* are means over {repeats} "
    "draws of data and noise, of real `gd.SGD` runs on all rows from zero weights, and the exact excess risk Σ s_i² "
    "(w_i - θ_i)² of their weights. *closed form* is Heckel & Yilmaz' formula Σ s_i² θ_i² (1 - η_i s_i²)^2k + (σ²/n) "
    "Σ (1 - (1 - η_i s_i²)^k)² for k steps, at its own extreme points.",
    "The second run gives the second group the step size at which its risk is lowest at the same step as the first "
    "group's. A step size for each feature is plain gradient descent on features rescaled by the root of it, which is "
    "how it was run.",
    "The sizes are our own choice, made so that both minima can be seen; the formula stands where a published number "
    "would. It is exact for features that are orthogonal over the rows. With random rows the risk after convergence "
    "lies higher, by the factor n/(n - d - 1) = {inflation:.2f} on average. Steps are those of the measured grid, "
    "whose points are about {grid:.0%} apart.",
)


@dataclass(frozen=True)
class Problem:
    """Two groups of features: a large scale that is fitted fast, and a small one that is fitted slowly.

    Attributes
    ----------
    features : int
        Features in each group.
    rows : int
        Training rows n.
    scales : tuple of float
        Standard deviation of the features of each group.
    signals : tuple of float
        s² θ² of a feature of each group, in units of σ²/n.
    noise : float
        Standard deviation σ of the noise.
    lr : float
        Step size η on half the mean of squares.
    """

    features: int = 50
    rows: int = 2000
    scales: tuple[float, float] = (1.0, 0.1)
    signals: tuple[float, float] = (1.0, 4.0)
    noise: float = 1.0
    lr: float = 0.1

    def each(self, pair: tuple[float, float]) -> Vector:
        """Return a group's value for each feature: (2 · features,)."""
        return np.repeat(np.array(pair), self.features)

    def step_sizes(self, scaled: bool) -> tuple[float, float]:
        """Return the step size of each group: `lr`, or for the second the one that aligns the minima of both risks.

        A feature's risk b u² + v (1-u)² with b = s² θ², v = σ²/n, u = (1 - η s²)^k is lowest at u = v / (b + v).
        """
        if not scaled:
            return self.lr, self.lr
        logs = [-math.log1p(signal) for signal in self.signals]  # logarithms of u at the lowest risk
        steps = logs[0] / math.log1p(-self.lr * self.scales[0] ** 2)
        return self.lr, (1 - math.exp(logs[1] / steps)) / self.scales[1] ** 2

    def closed_form(self, steps: Vector, scaled: bool) -> Vector:
        """Return the formula's excess risk after each number of steps."""
        variance = self.noise**2 / self.rows
        risk = np.zeros(len(steps))
        for scale, signal, lr in zip(self.scales, self.signals, self.step_sizes(scaled), strict=True):
            left = (1 - lr * scale**2) ** steps
            risk += self.features * variance * (signal * left**2 + (1 - left) ** 2)
        return risk


def run(
    folder: str | os.PathLike[str],
    *,
    problem: Problem | None = None,
    steps: int = 20000,
    repeats: int = 10,
    n_jobs: int = -1,
) -> Reproduction:
    """Train with one step size and with scaled ones; finished runs are kept in ``folder/epochs-runs``.

    Parameters
    ----------
    folder : path
        Where ``epochs.png`` goes.
    problem : Problem, optional
        The features; 50 of scale 1 and 50 of scale 0.1 when left out.
    steps : int
        Steps of gradient descent.
    repeats : int
        Draws of data and noise.
    n_jobs : int
        Runs at a time, -1 for one a processor.
    """
    path = figure_path(folder, "epochs")
    problem = Problem() if problem is None else problem
    at = log_spaced(steps, 60)
    sweep = run_sweep(
        [{"scaled": scaled, "steps": at, "seed": seed} for scaled in (False, True) for seed in range(repeats)],
        partial(descend, problem=problem),
        settings=vars(problem),
        folder=Path(folder) / "epochs-runs",
        n_jobs=n_jobs,
    )
    results = {name: _part(sweep.table, name == SCALED) for name in (ONE, SCALED)}
    forms = {name: _form(problem, at, name == SCALED) for name in results}
    table = Table(_rows(results, forms))
    title = _sentence(results)
    draw(problem, results, title, path)
    numbers = {"fast": problem.scales[0], "slow": problem.scales[1], "signal_fast": problem.signals[0]}
    numbers |= {"signal_slow": problem.signals[1], "repeats": repeats}
    numbers["inflation"] = problem.rows / (problem.rows - 2 * problem.features - 1)
    numbers["grid"] = (at[-1] / at[-2]) - 1
    notes = tuple(note.format(**vars(problem), **numbers) for note in NOTES)
    return Reproduction("epochs", f"Risk against the step. {title}", table, path, notes)


def descend(point: Point, problem: Problem) -> list[dict[str, Any]]:
    """Train one draw, and return its training error and excess risk after each number of steps."""
    rng = np.random.default_rng(point["seed"])
    scales = problem.each(problem.scales)
    size = np.sqrt(problem.each(problem.signals) / problem.rows) * problem.noise / scales
    theta = size * rng.choice([-1.0, 1.0], len(size))
    x = rng.standard_normal((problem.rows, len(theta))) * scales
    y = x @ theta + problem.noise * rng.standard_normal(problem.rows)
    stretch = np.sqrt(problem.each(problem.step_sizes(point["scaled"])) / problem.lr)
    weights = gradient_descent(x * stretch, y, _core.SGD(lr=problem.lr / 2), point["steps"])  # its loss has no 1/2
    rows = []
    for step, weight in zip(point["steps"], weights, strict=True):
        w = weight * stretch
        row = {"scaled": point["scaled"], "seed": point["seed"], "epoch": step}
        row |= {
            "train_error": float(np.mean((x @ w - y) ** 2)),
            "test_error": float(np.sum((scales * (w - theta)) ** 2)),
        }
        rows.append(row)
    return rows


def _part(table: Table, scaled: bool) -> DoubleDescent:
    some = Table(row for row in table.rows if row["scaled"] is scaled)
    return DoubleDescent("epoch", "train_error", "test_error", "excess risk", some, 0.0, 0.0)


def _form(problem: Problem, at: list[int], scaled: bool) -> DoubleDescent:
    """Return the formula's curve as a result, so that the same rule finds its minima and bump."""
    risks = problem.closed_form(np.array(at, float), scaled)
    common = {"seed": 0, "train_error": math.nan}
    rows = [{"epoch": k, **common, "test_error": float(r)} for k, r in zip(at, risks, strict=True)]
    return DoubleDescent("epoch", "train_error", "test_error", "excess risk", Table(rows), 0.0, 0.0)


def _rows(results: dict[str, DoubleDescent], forms: dict[str, DoubleDescent]) -> list[dict[str, Any]]:
    """Return the extreme points of each run and of the formula."""
    rows = []
    for name, result in results.items():
        known, own = _extremes(forms[name]), _extremes(result)
        rows.append({"quantity": f"{name}: minima of the risk", "closed form": len(known[0]), "measured": len(own[0])})
        places = [(f"minimum {i + 1}", known[0], own[0], i) for i in range(max(len(known[0]), len(own[0])))]
        places += [("bump", known[1], own[1], i) for i in range(max(len(known[1]), len(own[1])))]
        for what, theirs, ours, i in places:
            for which, quantity in enumerate((f"{name}: step of the {what}", f"{name}: risk at the {what}")):
                row: dict[str, Any] = {"quantity": quantity}
                row |= {"closed form": theirs[i][which]} if i < len(theirs) else {}
                rows.append(row | ({"measured": ours[i][which]} if i < len(ours) else {}))
    return rows


def _extremes(result: DoubleDescent) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Return the minima, (step, risk) of each, and the bump between them if there is one."""
    curve = result.curve()
    steps, risks = curve["epoch"], curve["test_error"]
    if result.peak is None:
        i = int(np.argmin(risks))
        return [(steps[i], risks[i])], []
    at = steps.index(result.peak)
    lows = int(np.argmin(risks[:at])), at + 1 + int(np.argmin(risks[at + 1 :]))
    return [(steps[i], risks[i]) for i in lows], [(steps[at], risks[at])]


def _sentence(results: dict[str, DoubleDescent]) -> str:
    found = [_extremes(result) for result in results.values()]
    one, scaled = ("two minima" if bump else "one minimum" for _, bump in found)
    best = [min(risk for _, risk in minima) for minima, _ in found]
    return f"One step size: {one}, best {best[0]:.3f}. Scaled step sizes: {scaled}, best {best[1]:.3f}"


def draw(problem: Problem, results: dict[str, DoubleDescent], title: str, path: Path) -> None:
    """Draw measured risk against the step for both runs, the closed form over them, and the extreme points."""
    axes = new_axes(True, "reproductions", size=SIZE)
    for (name, result), colour, style in zip(results.items(), (VERMILION, BLUE), ("-", DASHED), strict=True):
        curve = result.curve()
        steps, risks = np.array(curve["epoch"]), np.array(curve["test_error"])
        axes.plot(steps, risks, color=colour, ls=style, lw=2.2, label=f"{name}, measured")
        if "test_se" in curve:
            band = np.array(curve["test_se"], float)
            axes.fill_between(steps, risks - band, risks + band, color=colour, alpha=0.2, lw=0)
        form = problem.closed_form(steps.astype(float), name == SCALED)
        axes.plot(steps, form, color=INK, lw=1.2, ls=":", label="closed form" if name == ONE else None)
        minima, bump = _extremes(result)
        axes.plot(*zip(*minima, strict=True), "v", color=colour, ms=8, mfc="white", mew=1.6, zorder=5)
        if bump:
            axes.plot(*zip(*bump, strict=True), "^", color=colour, ms=8, mfc="white", mew=1.6, zorder=5)
    axes.plot([], [], "v", color=INK, mfc="white", ms=8, label="minimum")
    axes.plot([], [], "^", color=INK, mfc="white", ms=8, label="bump")
    log_ticks(axes)
    axes.set_ylim(bottom=0)
    dress(axes, title, "steps of gradient descent", "excess risk")
    save(axes, path)
