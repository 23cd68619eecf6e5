"""The figure of `LRRange`: the loss against the rate, the suggested rate and the limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tuning.lr_range import LRRange


def draw(result: LRRange, title: str, path: str | os.PathLike[str] | None) -> Axes:
    """Draw the loss against the rate; see `LRRange.plot`."""
    axes: Any = figures.new_axes(path is not None, "LRRange.plot")
    axes.plot(result.lr, result.loss, ".", color=figures.SKY, ms=5, label="loss of a batch")
    axes.plot(result.lr, result.smoothed, color=figures.BLUE, lw=2, label="smoothed")
    if result.suggestion is not None:
        label = f"suggested: {result.suggestion:.2g}"
        axes.axvline(result.suggestion, color=figures.GREEN, lw=2, label=label)
    if result.max_stable_lr is not None:
        label = f"largest stable at the start: {result.max_stable_lr:.2g}"
        axes.axvline(result.max_stable_lr, color=figures.VERMILION, lw=1.6, ls=figures.DASHED, label=label)
    axes.set_xscale("log")
    low, high = float(result.smoothed.min()), float(result.smoothed.max())
    if 0 < 20 * low < high:
        axes.set_yscale("log")
    else:
        axes.set_ylim(top=1.3 * high - 0.3 * low)  # a diverged last loss would compress the rest
    figures.dress(axes, title, "learning rate", "loss")
    figures.save(axes, path)
    drawn: Axes = axes
    return drawn
