"""Reproduction 2: sample-wise double descent in linear regression, against its closed form (Nakkiran 2019)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...experiments import DoubleDescent, double_descent_linear, linear_excess_risk
from ...experiments.descent import SIZE
from ...plotting.figures import BLUE, INK, new_axes, save
from ...table import Table
from ._result import Reproduction, figure_path

__all__ = ["run"]

BELOW = (100, 200, 300, 400, 500, 600, 700, 800, 850, 899, 930, 950, 970, 980, 985, 990)
ABOVE = (1010, 1015, 1020, 1030, 1050, 1070, 1100, 1200, 1500, 2000)
PUBLISHED = {500: 0.510, 899: 0.191, 990: 1.11, 1050: 0.204, 2000: 0.010}  # rows, excess risk; with d = 1,000, σ = 0.1
LOWEST = 899  # published: where the risk is lowest below d

NOTES = (
    "Setting: rows of {features:,} independent standard Gaussian features, ‖β‖ = 1, noise σ = 0.1, excess risk ‖w - "
    "β‖². The column *measured* is the mean over {repeats} draws of X, β and noise, each solved exactly for the limit "
    "that gradient descent from zero converges to (least squares of smallest norm, by an eigendecomposition of the "
    "smaller Gram matrix); *standard error* is that of the mean. *theory* is the closed form in full digits, which "
    "the published numbers round.",
    "*gradient descent* is the mean risk over the same draws after real training runs of `gd.SGD` (at its best rate "
    "2/(λ_min + λ_max)), or of `gd.Momentum` (with its best rate and μ) where the former would take more than 2,000 "
    "steps, from zero weights to 1e-5 of the distance; momentum from rest stays in the span of the rows as well, so "
    "the limit is the same. {gap} Left out where the Hessian of some draw is so ill-conditioned that even momentum "
    "would take more steps than that: {left}. There the exact solution stands alone.",
    "Near n = d the risk has heavy tails over the draws (its variance is infinite within three rows of d), so that "
    "the mean of few draws scatters more there.",
)


def run(
    folder: str | os.PathLike[str],
    *,
    features: int = 1000,
    samples: Iterable[int] = BELOW + ABOVE,
    repeats: int = 10,
    n_jobs: int = -1,
) -> Reproduction:
    """Measure the excess risk for each number of rows; finished draws are kept in ``folder/linear-samples-runs``.

    Parameters
    ----------
    folder : path
        Where ``linear-samples.png`` goes.
    features, samples, repeats, n_jobs
        As for `double_descent_linear`; the published numbers are for 1,000 features.
    """
    path = figure_path(folder, "linear-samples")
    result = double_descent_linear(
        features=features,
        samples=samples,
        repeats=repeats,
        n_jobs=n_jobs,
        folder=Path(folder) / "linear-samples-runs",
    )
    descended = _descended(result, repeats)
    draw(result, descended, path)
    curve = {row["samples"]: row for row in result.curve().rows}
    gap = max((abs(risk / curve[n]["test_error"] - 1) for n, (risk, _, _) in descended.items()), default=0.0)
    left = ", ".join(f"{n:,}" for n in curve if n not in descended) or "none"
    said = f"It differs from the exact solution's by at most {gap:.0e} of it." if descended else ""
    notes = tuple(note.format(features=features, repeats=repeats, gap=said, left=left) for note in NOTES)
    title = f"More rows, linear regression: {result.sentence()}"
    return Reproduction("linear-samples", title, _table(result, descended, features), path, notes)


def _descended(result: DoubleDescent, repeats: int) -> dict[int, tuple[float, str, float]]:
    """Return mean risk, method and mean steps of gradient descent, for numbers of rows at which all draws were run."""
    found = {}
    for n in sorted(set(result.table["samples"])):
        some = [row for row in result.table.rows if row["samples"] == n and "gradient_descent_risk" in row]
        if len(some) == repeats:
            risk = float(np.mean([row["gradient_descent_risk"] for row in some]))
            method = " / ".join(sorted({row["method"] for row in some}))
            found[n] = risk, method, float(np.mean([row["steps"] for row in some]))
    return found


def _published(row: dict[str, Any]) -> bool:
    return row["features"] == 1000 and row["samples"] in PUBLISHED


def _table(result: DoubleDescent, descended: dict[int, tuple[float, str, float]], features: int) -> Table:
    below = range(1, features - 1)
    lowest = min(below, key=lambda n: linear_excess_risk(n, features, noise=0.1))
    rows: list[dict[str, Any]] = []
    for line in result.curve().rows:
        n = line["samples"]
        row: dict[str, Any] = {"quantity": f"excess risk at n = {n:,}"}
        if _published({"samples": n, "features": features}):
            row["published"] = PUBLISHED[n]
        row |= {"measured": line["test_error"], "standard error": line.get("test_se")}
        row["theory"] = linear_excess_risk(n, features, noise=0.1)
        if n in descended:
            row |= dict(zip(("gradient descent", "method", "mean steps"), descended[n], strict=True))
        rows.append(row)
    least = {"quantity": "n of the lowest risk below d (closed form)", "measured": lowest}
    return Table([*rows, least | ({"published": LOWEST} if features == 1000 else {})])


def draw(result: DoubleDescent, descended: dict[int, tuple[float, str, float]], path: Path) -> None:
    """Draw measured risk and theory, gradient descent's results, and the published numbers."""
    axes = new_axes(True, "reproductions", size=SIZE)
    result.draw(axes)
    risks = [risk for risk, _, _ in descended.values()]
    axes.plot(list(descended), risks, "s", ms=8, mfc="none", mec=BLUE, mew=1.3, label="gradient descent, converged")
    known = {row["samples"]: PUBLISHED[row["samples"]] for row in result.table.rows if _published(row)}
    if known:
        axes.plot(list(known), list(known.values()), "x", ms=9, color=INK, mew=1.6, zorder=5, label="published")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower left")
    save(axes, path)
