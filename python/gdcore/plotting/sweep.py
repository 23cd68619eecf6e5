"""The figure of `Sweep`: the measure against a setting, with the mean over seeds and its standard error."""

from __future__ import annotations

import itertools
import math
import os
from typing import TYPE_CHECKING, Any

from ..internal.checks import is_number
from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tuning.starts import Sweep

NAMED = 12  # the most lines with a name
FAR = 20  # times the size of the best value: the distance from it that is drawn


def draw_sweep(result: Sweep, path: str | os.PathLike[str] | None) -> Axes:
    """Draw the figure; see `Sweep.plot`."""
    axes: Axes = figures.new_axes(path is not None, "Sweep.plot")
    rows = result.summary().rows
    names = list(result.starts[0].settings)
    first, others = names[0], names[1:]
    positions, ticks = _positions([row[first] for row in rows])
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for row, at in zip(rows, positions, strict=True):
        lines.setdefault(", ".join(f"{name} {_text(row[name])}" for name in others), []).append((at, row))
    alone = len(lines) == len(rows) > 1  # as of random settings: dots without lines and names
    if alone:
        lines = {"": [point for points in lines.values() for point in points]}
    for i, (label, points) in enumerate(lines.items()):
        drawn = sorted(((at, row) for at, row in points if result.monitor in row), key=lambda point: point[0])
        colour = figures.COLOURS[i % len(figures.COLOURS)]
        axes.errorbar(
            [at for at, _ in drawn],
            [row[result.monitor] for _, row in drawn],
            yerr=[row.get("standard_error", 0.0) for _, row in drawn],
            color=colour,
            marker="os^Dv"[i % 5],
            ls="none" if alone else ("-", figures.DASHED)[i // len(figures.COLOURS) % 2],
            capsize=3,
            label=(label or "mean and standard error") if i < NAMED else None,
        )
    groups = itertools.groupby(result.starts, lambda start: id(start.settings))
    starts = [(at, start) for at, (_, group) in zip(positions, groups, strict=True) for start in group]
    for at, start in starts:
        if math.isfinite(start.value):
            axes.plot([at], [start.value], ".", color=figures.FRAME, zorder=0)
        if start is result.best_start:
            axes.plot([at], [start.value], "D", color=figures.INK, ms=8, mfc="none", label="best model")
    means = [(at, row[result.monitor]) for at, row in zip(positions, rows, strict=True) if result.monitor in row]
    _limit(axes, [*means, *((at, start.value) for at, start in starts)], result.mode)
    if ticks:
        axes.set_xticks(list(ticks.values()), list(ticks))
    elif min(positions) > 0 and max(positions) > 20 * min(positions):
        axes.set_xscale("log")
    best = ", ".join(f"{name} {_text(value)}" for name, value in result.best_setting.items())
    label = figures.noun(result.monitor)
    figures.dress(axes, f"Best of {len(rows)} settings: {best}", first.replace("_", " "), label)
    figures.save(axes, path)
    return axes


def _limit(axes: Any, drawn: list[tuple[float, float]], mode: str) -> None:
    """End the vertical axis before values far from the best one, as of trainings that nearly diverged; mark these.

    `drawn` has the place and the value of each mean and start.
    """
    drawn = [(at, value) for at, value in drawn if math.isfinite(value)]
    sign = 1.0 if mode == "min" else -1.0
    values = sorted((value for _, value in drawn), key=lambda value: sign * value)
    if not values:
        return
    best, middle = values[0], values[len(values) // 4]
    reach = FAR * max(abs(best), abs(middle - best))
    if best > 0 and sign > 0:  # a logarithmic axis has room for more
        reach *= FAR
    near = [value for value in values if abs(value - best) <= reach]
    figures.scale_values(axes, near)
    if len(near) == len(values):
        return
    log = axes.get_yscale() == "log"
    room = 0.0 if log else 0.08 * (max(near) - min(near)) or 0.1 * abs(best) or 0.1
    low, high = (min(near) / 1.3, max(near) * 1.3) if log else (min(near) - room, max(near) + room)
    axes.set_ylim(low, high)
    beyond = sorted({at for at, value in drawn if abs(value - best) > reach})
    edge, marker = (high, "^") if sign > 0 else (low, "v")
    label = f"beyond the axis, {'up' if sign > 0 else 'down'} to {values[-1]:.3g}"
    axes.plot(beyond, [edge] * len(beyond), marker, color=figures.INK, ls="none", clip_on=False, zorder=5, label=label)


def _positions(values: list[Any]) -> tuple[list[float], dict[str, float]]:
    """Return where values are on the axis, and labels if they are no numbers."""
    if all(map(is_number, values)):
        return [float(value) for value in values], {}
    ticks = {text: float(i) for i, text in enumerate(dict.fromkeys(map(_text, values)))}
    return [ticks[_text(value)] for value in values], ticks


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else getattr(value, "__name__", str(value))
