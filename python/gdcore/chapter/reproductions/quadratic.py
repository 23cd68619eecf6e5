"""Reproduction 1: steps to 1e-6 on a quadratic, of gradient descent and of heavy ball at their best rates.

On E = ½ Σ λ_i α_i² with κ = λ_max/λ_min, gradient descent with η = 2/(λ_min + λ_max) shrinks the distance by
(κ-1)/(κ+1) a step (chapter, slides 23-25), heavy ball with its best η = 4/(√λ_max + √λ_min)² and
μ = ((√κ-1)/(√κ+1))² by (√κ-1)/(√κ+1) asymptotically (Polyak 1964). The published numbers of steps are
ln(10⁶) / -ln(factor), rounded.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from ... import _core
from ...analysis.convergence import convergence_factors
from ...analysis.objective import Vector
from ...analysis.problems import QuadraticProblem, quadratic_problem, random_rotation, training_path
from ...plotting.figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save
from ._result import Reproduction, compared, figure_path

__all__ = ["run"]

STEPS = {10: (69, 21), 100: (691, 69), 1000: (6908, 218)}  # published: κ, steps of gradient descent and of heavy ball
TARGET = 1e-6

NOTES = (
    "Real training runs in float64: `gd.SGD` and `gd.Momentum`, full batches, a linear model of 10 weights with "
    "the mean squared error, whose data give a Hessian with eigenvalues from 1 to κ in equal ratios, along no "
    "axis of the weights. The minimum is the origin, so that distances can shrink far below 1e-16. The factor of a "
    "step is measured after the transient, in the second half of a run to 1e-150. Every run starts at equal distances "
    "along the flattest and the steepest eigenvector: the worst case, to which the published numbers refer. Steps are "
    "counted until the distance is 1e-6 of the first, interpolated between two steps by a straight line in its "
    "logarithm.",
    "Gradient descent: both extreme directions shrink by exactly the factor from the first step on, and the "
    "counts are the published ones.",
    "Heavy ball: the published counts are those of the asymptotic factor ρ alone. At the best η and μ the two "
    "extreme directions have double roots ρ and -ρ, so that from rest the distances along them are (1 + (1-ρ)T) "
    "ρ^T and (1 + (1+ρ)T) ρ^T, which come within 1e-6 after {rest} steps. A run that starts with the velocity of "
    "one under way, (1 - 1/ρ) α along the flattest direction and (1 + 1/ρ) α along the steepest, has no such "
    "transient and takes the published counts (21.1 and 218.4 before rounding: the first whole steps within 1e-6 "
    "are 22 and 219).",
    "At η = 2/λ_max the factor of the steepest direction is 1 - ηλ_max = -1: it changes sign at each step "
    "and does not decay, while the other directions do, the slowest by 1 - 2/κ a step.",
)


def spectrum(condition: float, size: int = 10) -> QuadraticProblem:
    """Return a surface with `size` eigenvalues from 1 to `condition`, its minimum at the origin."""
    return quadratic_problem(np.geomspace(1, condition, size), random_rotation(size, np.random.default_rng(0)))


def train(
    problem: QuadraticProblem, optimizer: _core.Optimizer, alpha: Vector, steps: int, velocity: Vector | None = None
) -> Vector:
    """Return the coordinates α after each step of a run from `alpha`: (steps + 1, n), the first row included."""
    trainer = problem.trainer(optimizer, problem.minimum + problem.basis @ alpha)
    if velocity is not None:
        trainer.core.state()["0.layers.0.weight"][...] = problem.basis @ velocity
    return problem.coordinates(training_path(trainer, problem.x, problem.y, steps))


def distance(alpha: Vector) -> Vector:
    """Return the distances to the minimum, relative to the first: (steps + 1,)."""
    far = np.linalg.norm(alpha, axis=1)
    return np.asarray(far / far[0])


def crossing(far: Vector) -> float:
    """Return the step after which the distance stays within the target, interpolated in its logarithm."""
    last = int(np.flatnonzero(far > TARGET)[-1])
    over, under = np.log(far[last : last + 2] / TARGET)
    return float(last + over / (over - under))


def tail_factor(far: Vector) -> float:
    """Return the mean factor of a step, over the second half of a run."""
    half = len(far) // 2
    return float((far[-1] / far[half]) ** (1 / (len(far) - 1 - half)))


@dataclass(frozen=True)
class Case:
    """Measurements at one condition number; `descent`, `rest` and `moving` are the distances after each step."""

    condition: int
    descent: Vector
    rest: Vector
    moving: Vector
    edge: float
    slowest: float


def measure(condition: int) -> Case:
    """Run gradient descent and heavy ball at their best rates, and gradient descent at the edge of stability."""
    problem = spectrum(condition)
    start = np.zeros(len(problem.minimum))
    start[[0, -1]] = 1.0
    plain, heavy = factors(condition)
    steepest = problem.eigenvalues[-1]
    data = (problem.model(problem.minimum), _core.MeanSquaredError(), problem.x, problem.y)
    best = convergence_factors(*data, lr=2 / steepest)
    ball = _core.Momentum(lr=best.best_momentum_lr, momentum=best.best_momentum)
    velocity = start.copy()
    velocity[[0, -1]] = 1 - 1 / heavy, 1 + 1 / heavy  # of a step before, at α/ρ and at -α/ρ
    far = math.log(1e-150)
    descent = train(problem, _core.SGD(lr=best.best_lr), start, math.ceil(far / math.log(plain)))
    length = math.ceil(far / math.log(heavy))
    edge = np.abs(train(problem, _core.SGD(lr=best.lr), start, 10 * condition))
    return Case(
        condition,
        distance(descent),
        distance(train(problem, ball, start, length)),
        distance(train(problem, ball, start, 2 * STEPS[condition][1], velocity)),
        float(edge[-1, -1] / edge[0, -1]),
        tail_factor(edge[:, 0]),
    )


def factors(condition: float) -> tuple[float, float]:
    """Return (κ-1)/(κ+1) and (√κ-1)/(√κ+1)."""
    root = math.sqrt(condition)
    return (condition - 1) / (condition + 1), (root - 1) / (root + 1)


def run(folder: str | os.PathLike[str]) -> Reproduction:
    """Measure steps and factors for κ = 10, 100 and 1,000, and draw the distances; see the module."""
    path = figure_path(folder, "quadratic")  # first, so that an invalid folder raises before the runs
    cases = [measure(condition) for condition in STEPS]
    rows: list[tuple[str, object, object, str]] = []
    for case in cases:
        k, (plain, heavy) = case.condition, factors(case.condition)
        steps, steps_heavy = STEPS[k]
        rows += [
            (f"κ = {k}: gradient descent, factor", plain, tail_factor(case.descent), "(κ-1)/(κ+1)"),
            (f"κ = {k}: gradient descent, steps", steps, round(crossing(case.descent), 1), ""),
            (f"κ = {k}: heavy ball, factor", heavy, tail_factor(case.rest), "(√κ-1)/(√κ+1); from rest"),
            (f"κ = {k}: heavy ball, steps", steps_heavy, round(crossing(case.moving), 1), "under way"),
            (f"κ = {k}: heavy ball, steps", steps_heavy, round(crossing(case.rest), 1), "from rest: see below"),
            (f"κ = {k}: η = 2/λmax, steepest α", 1.0, case.edge, f"share left after {10 * k} steps"),
            (f"κ = {k}: η = 2/λmax, slowest factor", 1 - 2 / k, case.slowest, "1 - 2/κ"),
        ]
    agree = all((round(crossing(c.descent)), round(crossing(c.moving))) == STEPS[c.condition] for c in cases)
    title = (
        f"Steps to 1e-6 on a quadratic {'are' if agree else 'are not'} the published ones, "
        "those of heavy ball once it is under way"
    )
    rest = ", ".join(f"{crossing(case.rest):.1f}" for case in cases)
    draw(cases, path)
    return Reproduction("quadratic", title, compared(rows), path, tuple(note.replace("{rest}", rest) for note in NOTES))


def draw(cases: list[Case], path: str | os.PathLike[str]) -> None:
    """Draw distance against step: gradient descent, heavy ball from rest and under way, and the published counts."""
    axes = new_axes(True, "reproductions", size=(7.6, 4.6))
    for case, colour in zip(cases, (BLUE, GREEN, VERMILION), strict=True):
        for far, style in ((case.descent, "-"), (case.rest, DASHED), (case.moving, ":")):
            steps = np.flatnonzero(far > 0.4 * TARGET)[1:]
            axes.plot(steps, far[steps], color=colour, ls=style, lw=1.8)
        axes.plot([], [], color=colour, lw=3, label=f"κ = {case.condition:,}")
    for style, label in (("-", "gradient descent"), (DASHED, "heavy ball, from rest"), (":", "heavy ball, under way")):
        axes.plot([], [], color=INK, ls=style, lw=1.8, label=label)
    counts = sorted({count for case in cases for count in STEPS[case.condition]})
    axes.plot(counts, [TARGET] * len(counts), "o", ms=7, mfc="white", mec=INK, mew=1.5, zorder=5, label="published")
    for count in counts:
        axes.annotate(f"{count:,}", (count, TARGET), xytext=(0, -18), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(8e-8, 300)
    last = cases[-1]
    title = (
        f"κ = {last.condition:,}: 1e-6 after {crossing(last.descent):,.0f} steps of gradient descent, "
        f"{crossing(last.moving):.0f} of heavy ball ({crossing(last.rest):.0f} from rest)"
    )
    dress(axes, title, "step", "distance to the minimum / that at the start", legend=False)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=2, loc="upper right")
    save(axes, path)
