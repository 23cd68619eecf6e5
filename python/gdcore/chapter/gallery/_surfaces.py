"""Drawing of error surfaces of two weights and of paths over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...analysis.objective import Objective, Vector
from ...plotting.figures import GRID, INK

FAINT = "#a0a0a0"  # contours


def rotated(degrees: float) -> Vector:
    """Return the basis of the plane that is turned by an angle: (2, 2), a vector in each column."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def contours(
    axes: Any,
    objective: Objective,
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    levels: int | Sequence[float] = 9,
    points: int = 81,
    through: npt.ArrayLike | None = None,
    colour: str = FAINT,
) -> None:
    """Draw the contours of an error of two weights, darker where it is low, and a stronger one through a point.

    `levels` are heights, or a number of them at equal steps in √E, evenly spaced for a quadratic bowl.
    """
    first, second = np.linspace(*x, points), np.linspace(*y, points)
    grid = np.stack(np.meshgrid(first, second), axis=-1)
    values = np.array([[objective.value(w) for w in row] for row in grid])
    low, high = values.min(), values.max()
    even = np.linspace(np.sqrt(low), np.sqrt(high), levels + 2)[1:-1] ** 2 if isinstance(levels, int) else levels
    heights = [float(height) for height in even]
    axes.contourf(first, second, values, [low, *heights, high], cmap="Greys_r", alpha=0.18)
    axes.contour(first, second, values, heights, colors=colour, linewidths=0.8)
    if through is not None:
        axes.contour(first, second, values, [objective.value(through)], colors=INK, linewidths=1.3)
    axes.set_xlim(*x)
    axes.set_ylim(*y)


def trace(
    axes: Any, path: Vector, *, colour: str, label: str | None = None, marker: str = "o", style: Any = "-"
) -> None:
    """Draw a path with a marker at each step and a ring at its start."""
    axes.plot(path[:, 0], path[:, 1], ls=style, color=colour, lw=1.6, marker=marker, ms=3.5, label=label, zorder=4)
    axes.plot(path[0, 0], path[0, 1], "o", ms=8, mfc="white", mec=INK, mew=1.5, zorder=5)


def star(axes: Any, position: npt.ArrayLike, *, label: str | None = None, colour: str = INK) -> None:
    """Mark a minimum."""
    x, y = np.asarray(position)
    axes.plot(x, y, "*", ms=13, mfc=colour, mec="white", mew=0.8, ls="none", label=label, zorder=6)


def plain(axes: Any) -> None:
    """Remove the grid and draw a full frame."""
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(GRID)
