"""The figure of `DoubleDescent`: test and training error against the varied quantity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures

if TYPE_CHECKING:
    from ..experiments.descent import DoubleDescent

LONGEST = 90  # characters of a title in one line


def draw(result: DoubleDescent, axes: Any, label: str) -> None:
    """Draw test and training error; see `DoubleDescent.draw`."""
    curve = result.curve()
    values, test = curve[result.axis], np.array(curve[result.test])
    if "theory" in result.table:
        theory = dict(zip(result.table[result.axis], result.table["theory"], strict=True))
        axes.plot(values, [theory[v] for v in values], color=figures.INK, lw=1, ls=":", label="theory")
    if "theory" not in result.table:  # the linear problem's training error is no risk
        train = curve[result.train]
        axes.plot(values, train, color=figures.BLUE, ls=figures.DASHED, marker="s", ms=4, label="training")
    axes.plot(values, test, color=figures.VERMILION, marker="o", ms=4, label="test")
    if "test_se" in curve:
        band = np.array(curve["test_se"], float)
        axes.fill_between(values, test - band, test + band, color=figures.VERMILION, alpha=0.2, lw=0)
    figures.log_ticks(axes)
    if result.axis == "weight_decay":
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.invert_xaxis()
    if result.threshold is not None:
        axes.axvline(result.threshold, color=figures.GREEN, lw=1.4, ls="-.", zorder=0)
        side = "up to" if result.fitted_below else "from"
        threshold = result.described(result.threshold, result.axis == "weight_decay")
        axes.plot([], [], color=figures.GREEN, ls="-.", label=f"training rows fitted {side} {threshold}")
    if max(test) > 20 * min(test) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    title = result.sentence()
    if len(title) > LONGEST:
        title = title.replace(", falls again", ",\nfalls again")
    figures.dress(axes, title, label, result.measure)
