"""The style of gdcore's figures: colours for colour-blind readers, titles that state the result, little ink.

matplotlib is imported only when something is drawn, as its import is slow.
"""

from __future__ import annotations

import os
from typing import Any

from ..internal.checks import optional_module

# Okabe & Ito's colours, distinct under every common colour blindness. Lines also differ in style or marker.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
INK, GRID, FRAME = "#404040", "#e4e4e4", "#b0b0b0"
DASHED = (0, (5, 1.5))  # a line style


def new_axes(saved: bool, what: str, *, size: tuple[float, float] = (7, 4.2), rows: int = 1, columns: int = 1) -> Any:
    """Return empty axes (an array of them for more than one row or column).

    A saved figure is separate: it opens no window and changes no global state. Otherwise it belongs to
    matplotlib.pyplot, and a notebook or ``plt.show()`` shows it. The ImportError says that `what` needs matplotlib.
    """
    if saved:
        figure = optional_module("matplotlib.figure", what, "gdcore[plot]").Figure(figsize=size, layout="constrained")
        return figure.subplots(rows, columns)
    return optional_module("matplotlib.pyplot", what, "gdcore[plot]").subplots(
        rows, columns, figsize=size, layout="constrained"
    )[1]


def dress(axes: Any, title: str, x: str, y: str, *, grid: str = "y", legend: bool = True) -> None:
    """Set the title (a sentence that states the result) and labels of axes, and remove unneeded lines."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=12)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    if grid:
        axes.grid(axis=grid, color=GRID, lw=0.8)
        axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both", length=3)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)


def save(axes: Any, path: str | os.PathLike[str] | None, *, title: str = "") -> None:
    """Save the figure that `axes` belong to, unless `path` is None; the ending gives the format.

    A figure of several panels with titles may have a common `title` above.
    """
    if title:
        axes.figure.set_layout_engine("compressed")  # panels of equal scales move together, below the title
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    if path is not None:
        axes.figure.savefig(os.fspath(path), dpi=150, facecolor="white")


def noun(column: str) -> str:
    """Return the name of a column of a history in words: "validation roc auc"."""
    return column.replace("val_", "validation ", 1).replace("_", " ")


def log_ticks(axes: Any) -> None:
    """Make the horizontal axis logarithmic, with the labels 1, 2, 5, 10, ... in plain digits."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0) if high < 2000 * low else (1.0,))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def scale_values(axes: Any, values: list[float]) -> None:
    """Make the vertical axis logarithmic, with plain digits, if the values differ by a factor above 20."""
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
        if max(values) < 500 * min(values):
            axes.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
