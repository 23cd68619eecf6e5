"""The figure of a `LossSurface`: true and predicted contours, and a training path."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .figures import BLUE, DASHED, INK, ORANGE, VERMILION, dress, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..analysis.surface import LossSurface, ProjectedPath


def draw(
    surface: LossSurface, path: str | os.PathLike[str] | None, trajectory: ProjectedPath | None, levels: int
) -> Axes:
    """Draw a surface; see `LossSurface.plot`."""
    line = len(surface.directions) == 1
    axes: Any = new_axes(path is not None, "LossSurface.plot", size=(7, 4.6) if line else (7, 6.4))
    if line:
        _line(axes, surface, trajectory)
    else:
        _contours(axes, surface, levels)
        if trajectory is not None:
            _path(axes, trajectory)
        _points(axes, surface)
    dress(
        axes,
        _title(surface),
        f"α: {surface.labels[0]}",
        "loss E" if line else f"β: {surface.labels[1]}",
        grid="y" if line else "",
        legend=False,
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    save(axes, path)
    drawn: Axes = axes
    return drawn


def contour_levels(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return `count` ascending levels: evenly spaced contours of a bowl, or geometric if E spans over 3 decades."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high > 1000 * low:
        return np.geomspace(low, high, count + 2)[1:-1]
    return low + (high - low) * (np.arange(1, count + 1) / (count + 1)) ** 2


def _contours(axes: Any, surface: LossSurface, levels: int) -> None:
    values = np.ma.masked_invalid(surface.values)
    heights = contour_levels(surface.values, levels)
    if not (np.diff(heights) > 0).all():
        return  # flat: there is no contour to draw
    edges = np.concatenate([[float(values.min())], heights, [float(values.max())]])
    # light colours, so that lines and points stay readable
    shades = [(0.45 + 0.55 * t, 0.62 + 0.38 * t, 0.78 + 0.22 * t) for t in np.linspace(0, 1, len(edges) - 1)]
    filled = axes.contourf(surface.alphas, surface.betas, values, levels=edges, colors=shades)
    axes.contour(surface.alphas, surface.betas, values, levels=heights, colors=[BLUE], linewidths=0.9)
    axes.contour(
        surface.alphas,
        surface.betas,
        surface.quadratic(),
        levels=heights,
        colors=[VERMILION],
        linewidths=1.3,
        linestyles=[DASHED],
    )
    axes.plot([], [], color=BLUE, lw=0.9, label="contours of E")
    axes.plot([], [], color=VERMILION, lw=1.3, ls=DASHED, label="predicted by the quadratic model")
    bar = axes.figure.colorbar(filled, ax=axes, shrink=0.85, format="%.3g")
    bar.set_label("loss E", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, length=0)


def _path(axes: Any, trajectory: ProjectedPath) -> None:
    """Draw a training run; the limits stay those of the grid."""
    a, b = trajectory.coordinates.T
    limits = axes.get_xlim(), axes.get_ylim()
    outside = math.sqrt(float(np.mean(trajectory.outside**2)))
    label = f"training path, {outside:.0%} outside the plane"
    axes.plot(a, b, "-", color=INK, lw=1.4, marker="." if len(a) <= 200 else None, ms=5, label=label)
    axes.plot(a[:1], b[:1], "o", ms=10, mfc="white", mec=INK, mew=2, ls="none", label="start")
    axes.plot(a[-1:], b[-1:], "*", ms=16, mfc=ORANGE, mec=INK, mew=1, ls="none", label="end", zorder=5)
    axes.set(xlim=limits[0], ylim=limits[1])


def _points(axes: Any, surface: LossSurface) -> None:
    centre = f"centre: E = {surface.value:.3g}"
    axes.plot([0], [0], "P", ms=8, mfc=VERMILION, mec="white", mew=1, ls="none", label=centre, zorder=6)
    for marker, (name, point), value in zip("sD", surface.marks.items(), surface.mark_values, strict=False):
        axes.plot(*point, marker, ms=9, mfc=ORANGE, mec=INK, ls="none", label=f"{name}: E = {value:.3g}", zorder=4)


def _line(axes: Any, surface: LossSurface, trajectory: ProjectedPath | None) -> None:
    values, predicted = surface.values[0], surface.quadratic()[0]
    axes.plot(surface.alphas, values, color=BLUE, lw=2, label="E")
    limits = axes.get_ylim()
    axes.plot(surface.alphas, predicted, color=VERMILION, ls=DASHED, lw=1.3, label="predicted by the quadratic model")
    axes.plot([0], [surface.value], "P", ms=10, mfc=VERMILION, mec="white", ls="none", label="centre", zorder=4)
    for (name, point), height in zip(surface.marks.items(), surface.mark_values, strict=True):
        axes.plot(point, [height], "s", ms=9, mfc=ORANGE, mec=INK, ls="none", label=name, zorder=4)
    if trajectory is not None:
        a = trajectory.coordinates[:, 0]
        axes.plot(
            a, np.full(len(a), limits[0]), "|", color=INK, ms=12, label="training path, on the axis", clip_on=False
        )
    axes.set_ylim(limits)


def _title(surface: LossSurface) -> str:
    """Return a sentence on the line between two solutions, or on the predicted contours and their error."""
    if np.isfinite(surface.values).all() and np.ptp(surface.values) == 0:
        return "The loss is the same everywhere on the grid"
    if len(surface.directions) == 1 and surface.marks and surface.alphas[0] <= 0 and surface.alphas[-1] >= 1:
        between = surface.values[0, (surface.alphas >= 0) & (surface.alphas <= 1)]
        top, end = max(surface.value, *surface.mark_values, *between), surface.mark_values[0]
        way = f"On the straight way to solution 1 the loss is up to {top:.3g}"
        return f"{way};\n{surface.value:.3g} and {end:.3g} at its ends"
    curvatures = np.linalg.eigvalsh(surface.curvature)
    if len(curvatures) == 1:
        kind = "a valley" if curvatures[0] > 0 else "a ridge" if curvatures[0] < 0 else "a slope"
    elif curvatures[0] > 0:
        kind = "ellipses"
    else:
        kind = "a saddle" if curvatures[0] < 0 < curvatures[1] else "no closed valley"
    quality = surface.quality()
    if not math.isfinite(quality):
        error = "the loss overflows nearby"
    elif quality < 1e-9:
        error = "it is exact up to rounding"
    else:
        error = f"half-way to the edge it errs by up to {100 * quality:.2g} % of the range of E"
    return f"The quadratic model at the centre predicts {kind};\n{error}"
