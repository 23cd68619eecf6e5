"""The figure of `RandomLabels`: training accuracy by epoch, and accuracies after training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..experiments.labels import RandomLabels


def draw(result: RandomLabels, path: str | os.PathLike[str] | None) -> Axes:
    """Draw the accuracies; see `RandomLabels.plot`."""
    both: Any = figures.new_axes(path is not None, "RandomLabels.plot", size=(9.6, 4.2), columns=2)
    left, right = both
    summary = result.summary()
    styles = ("-", figures.DASHED, "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
    for i, share in enumerate(summary["label_noise"]):
        curve = result.curve(share)
        colour, style = figures.COLOURS[i % len(figures.COLOURS)], styles[i % len(styles)]
        left.plot(curve["epoch"], curve["train_accuracy"], color=colour, ls=style, lw=1.8, label=f"{share:.0%} random")
    figures.log_ticks(left)
    figures.dress(left, result.sentence(), "epochs of training", "share of training rows right")
    shares = summary["label_noise"]
    right.plot(shares, summary["train_accuracy"], "s", ls=figures.DASHED, color=figures.BLUE, label="training")
    right.plot(shares, summary["test_accuracy"], "o-", color=figures.VERMILION, label="test, on true labels")
    right.axhline(1 / result.classes, color=figures.INK, lw=1, ls=":", label="guessing")
    figures.dress(right, "", "share of random labels", "share of rows right, after training")
    for axes in both:
        axes.set_ylim(0, 1.04)
    figures.save(left, path)
    drawn: Axes = left
    return drawn
