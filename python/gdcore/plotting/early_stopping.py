"""The four plots of `EarlyStoppingDecay.plot`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..experiments.early_stopping import EarlyStoppingDecay

MARKERS = "os^Dvp"


def draw(result: EarlyStoppingDecay, path: str | os.PathLike[str] | None) -> list[Axes]:
    """Draw the figure; see `EarlyStoppingDecay.plot`."""
    grid = figures.new_axes(path is not None, "EarlyStoppingDecay.plot", size=(11, 8.4), rows=2, columns=2)
    axes = list(grid.flat)
    for picture, each in zip((_shares, _differences, _best, _paths), axes, strict=True):
        picture(each, result)
    figures.save(axes[0], path)
    return axes


def _shares(axes: Any, result: EarlyStoppingDecay) -> None:
    table = result.shares
    at = result.lr * np.array(table["steps"]) * np.array(table["eigenvalue"])
    curve = np.geomspace(at.min(), at.max(), 200)
    axes.plot(curve, 1 - np.exp(-curve), color=figures.BLUE, lw=1.5, label="stopped, predicted")
    axes.plot(at, table["stopped"], "o", color=figures.BLUE, ms=5, mfc="white", label="stopped, measured")
    axes.plot(
        curve, curve / (1 + curve), color=figures.VERMILION, lw=1.5, ls=figures.DASHED, label="decayed, predicted"
    )
    axes.plot(at, table["decayed"], "s", color=figures.VERMILION, ms=4, label="decayed, measured")
    axes.set_xscale("log")
    gap = max(abs(a - b) for a, b in zip(table["stopped"], table["decayed"], strict=True))
    title = f"Quadratic: stopped at T and decayed with λ = 1/(ηT),\nwhat is fitted differs by {gap:.2f} at most"
    figures.dress(axes, title, "ηTλ$_i$", "share of the minimum's coordinate that is fitted")


def _differences(axes: Any, result: EarlyStoppingDecay) -> None:
    for i, (steps, each) in enumerate(zip(result.times, result.differences, strict=True)):
        colour = figures.COLOURS[i % len(figures.COLOURS)]
        at, best = result.decays * result.lr * steps, int(np.argmin(each))
        style = {"color": colour, "lw": 1.5, "marker": MARKERS[i % len(MARKERS)], "ms": 7}
        axes.plot(at, each, markevery=[best], label=f"T = {steps:,}", **style)
    axes.axvline(1.0, color=figures.INK, lw=1, ls=figures.DASHED)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    ratios = result.ratios("network")
    title = f"Network: the best λ is {min(ratios):.2g} to {max(ratios):.2g} times 1/(ηT)"
    figures.dress(axes, title, "ληT (dashed: λ = 1/(ηT))", "difference of predictions, root mean square")


def _best(axes: Any, result: EarlyStoppingDecay) -> None:
    rows = result.matches.rows
    there = [row["one_over_lr_steps"] for row in rows]
    ends = [min(there), max(there)]
    axes.plot(ends, ends, color=figures.INK, lw=1, ls=figures.DASHED, label="λ = 1/(ηT)")
    for problem, colour, marker in (("quadratic", figures.BLUE, "o"), ("network", figures.VERMILION, "s")):
        chosen = [row for row in rows if row["problem"] == problem]
        at, best = ([row[name] for row in chosen] for name in ("one_over_lr_steps", "best"))
        axes.plot(at, best, marker, color=colour, ms=7, label=problem)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ratios = [row["ratio"] for row in rows]
    within = max(max(ratios), 1 / min(ratios))
    span = max(there) / min(there)
    title = (
        f"The best λ follows 1/(ηT) to within a factor of {within:.2g}\nwhile that changes by a factor of {span:.3g}"
    )
    figures.dress(axes, title, "1/(ηT)", "λ of the most similar predictions")


def _paths(axes: Any, result: EarlyStoppingDecay) -> None:
    """Draw the predictions of both paths, over the same range of T and 1/(ηλ), on their principal plane."""
    least = 1.0 / (result.lr * result.times[-1])
    inside = result.decays >= 0.999 * least
    both = np.concatenate([result.stopped_path, result.decayed_path[inside]])
    middle = both.mean(axis=0)
    _, values, vectors = np.linalg.svd(both - middle, full_matrices=False)
    share = float((values[:2] ** 2).sum() / (values**2).sum())
    stopped = (result.stopped_path - middle) @ vectors[:2].T
    decayed = (result.decayed_path[inside] - middle) @ vectors[:2].T
    for i, steps in enumerate(result.times):
        near = int(np.argmin(np.abs(np.log(result.decays[inside] * result.lr * steps))))
        ends = np.array([stopped[result.stopped_at[i]], decayed[near]])
        axes.plot(*ends.T, "-", color=figures.INK, lw=1, label=None if i else "T and λ = 1/(ηT)")
        style = {"fontsize": 9, "color": figures.BLUE, "ha": "right"}
        axes.annotate(f"{steps:,}", ends[0], xytext=(-6, 6), textcoords="offset points", **style)
    axes.plot(*stopped.T, "-o", color=figures.BLUE, ms=4, mfc="white", lw=1.5, label="stopped at T, earlier … later")
    axes.plot(*decayed.T, "--s", color=figures.VERMILION, ms=4, lw=1.5, label="decayed, more … less")
    title = f"The network's predictions on the way, on the plane\nthat shows {share:.0%} of their variance"
    figures.dress(axes, title, "first principal direction", "second principal direction", grid="both")
