"""The figure of `Restarts`: the sorted measures of all starts, and the learning curves."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tuning.starts import Restarts, Start

NAMED = 12  # the most starts whose seeds fit under the axis


def draw(result: Restarts, path: str | os.PathLike[str] | None) -> list[Axes]:
    """Draw the figure; see `Restarts.plot`."""
    axes = figures.new_axes(path is not None, "Restarts.plot", size=(10, 4.2), columns=2)
    label = figures.noun(result.monitor)
    _values(axes[0], result, label)
    _curves(axes[1], result, label)
    figures.save(axes[0], path)
    return list(axes)


def _values(axes: Any, result: Restarts, label: str) -> None:
    scales = list(dict.fromkeys(start.epsilon for start in result.starts))
    ticks: list[tuple[float, str]] = []
    for group, scale in enumerate(scales):
        sign = 1.0 if result.mode == "min" else -1.0
        finite = [start for start in result.starts if start.epsilon == scale and math.isfinite(start.value)]
        finite.sort(key=lambda start: sign * start.value)
        at = _places(len(finite), group, len(scales))
        axes.plot(at, [start.value for start in finite], "o", color=figures.BLUE, ms=6, alpha=0.85)
        if scale is not None:
            ticks.append((float(group), f"{scale:g}"))
        elif len(finite) <= NAMED:
            ticks += [(position, str(start.seed)) for position, start in zip(at, finite, strict=True)]
        for position, start in zip(at, finite, strict=True):
            if start is result.best_start:
                axes.plot([position], [start.value], "D", color=figures.VERMILION, ms=9, label="best", zorder=5)
    middle = result.spread.median
    axes.axhline(middle, color=figures.INK, lw=1, ls=figures.DASHED, label=f"median {middle:.3g}", zorder=0)
    axes.set_xticks([position for position, _ in ticks], [name for _, name in ticks])
    axes.margins(x=0.08)
    figures.scale_values(axes, list(result.spread[:3]))
    below = "seed, starts sorted" if scales == [None] else "scale ε of the initial weights, starts sorted"
    figures.dress(axes, _title(result), below, label)


def _places(count: int, group: int, groups: int) -> list[float]:
    """Return the positions of a group's dots: side by side, around the group's index if there are several groups."""
    if groups == 1:
        return [float(i) for i in range(count)]
    return [group + 0.6 * ((i + 0.5) / count - 0.5) for i in range(count)]


def _curves(axes: Any, result: Restarts, label: str) -> None:
    others = [start for start in result.starts if start is not result.best_start and start.history.epochs]
    for i, start in enumerate(others):
        _curve(axes, start, result.monitor, color=figures.SKY, lw=1, alpha=0.8, label=None if i else "other starts")
    best = result.best_start
    _curve(axes, best, result.monitor, color=figures.VERMILION, lw=2, label=f"best: seed {best.seed}")
    value, by = best.history[result.monitor][best.best_epoch - 1], result._chosen_by()
    axes.plot([best.best_epoch], [value], "D", color=figures.VERMILION, ms=8)
    values = [v for start in result.starts for v in _measure(start, result.monitor) if math.isfinite(v)]
    figures.scale_values(axes, values)
    reason = f"\nchosen by {figures.noun(by)}" if by else " its best"
    if math.isclose(best.value, value, rel_tol=1e-6):
        title = f"The best start's weights are those of epoch {best.best_epoch},{reason}"
    elif by:
        title = f"The best start's weights are not those of epoch {best.best_epoch},{reason}"
    else:
        title = f"The best start was better earlier: {value:.3g} in epoch {best.best_epoch}"
    figures.dress(axes, title, "epoch", label)


def _curve(axes: Any, start: Start, monitor: str, **style: Any) -> None:
    dot = "." if start.history.epochs == 1 else None
    values = _measure(start, monitor)
    axes.plot(start.history["epoch"][: len(values)], values, marker=dot, **style)


def _measure(start: Start, monitor: str) -> list[float]:
    return list(start.history.get(monitor, []))


def _title(result: Restarts) -> str:
    spread, starts = result.spread, result.starts
    best, worst = (spread.min, spread.max) if result.mode == "min" else (spread.max, spread.min)
    if len(starts) == 1:
        return f"The only start: {best:.3g}"
    left_out = [start for start in starts if start.note]
    word = "diverged" if all(start.diverged for start in left_out) else "without a finite measure"
    scale = "" if result.best_epsilon is None else f" (ε = {result.best_epsilon:g})"
    lost = f"; {len(left_out)} {word}" if left_out else ""
    return f"Best of {len(starts)} starts: {best:.3g}{scale}; worst: {worst:.3g}{lost}"
