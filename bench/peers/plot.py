"""The plot: the time of each peer's step divided by gdcore's."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .registry import OURS, WHOLE, label
from .report import machine_line, ordered

# Okabe and Ito's colours, distinguishable for colour-blind readers; the markers differ too.
STYLES = {
    "torch": ("#D55E00", "o"),
    "torch.compile": ("#E69F00", "s"),
    "jax": ("#0072B2", "^"),
    "jax-scan": ("#56B4E9", "<"),
    "sklearn": ("#009E73", "D"),
}
OTHER = ("#CC79A7", "v")
BAR = 0.8  # width of a group of bars, relative to the distance of groups


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the six networks as bars and the grid as a strip of dots, and write the PNG."""
    six = [case for case in results["cases"] if case["group"] == "six" and case["ratio"] is not None]
    grid = [case for case in results["cases"] if case["group"] == "grid" and case["ratio"] is not None]
    names = ordered({name for case in six + grid for name in case["peers"] if name not in OURS})
    heights = [0.4 + (0.16 * len(names) + 0.15) * len(six) if six else 0.0, 0.5 + 0.3 * len(names) if grid else 0.0]
    rows = [height for height in heights if height]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, sum(rows) + 1.1), dpi=150, layout="constrained")
        axes = list(figure.subplots(len(rows), 1, height_ratios=rows, squeeze=False, sharex=True)[:, 0])
        for ax in axes:
            ax.set_xscale("log")
            ax.axvline(1, color="black", linewidth=1)
        if six:
            _bars(axes[0], six, names)
        if grid:
            _strip(axes[-1], grid, names)
        whole = " and ".join(label(name) for name in names if name in WHOLE) or "whole epochs"
        axes[-1].set_xlabel(
            f"time of a training step divided by gdcore's (of {whole}: by gdcore fit's)\n{machine_line(results)}"
        )
        ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if t <= axes[-1].get_xlim()[1]]
        axes[-1].set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes[-1].minorticks_off()
        figure.savefig(path)


def _bars(ax: Axes, some: list[dict[str, Any]], names: list[str]) -> None:
    thickness = BAR / len(names)
    for i, name in enumerate(names):
        colour = STYLES.get(name, OTHER)[0]
        found = [(row, case["peers"][name]["ratio"]) for row, case in enumerate(some) if name in case["peers"]]
        at = [row + (i + 0.5) * thickness - BAR / 2 for row, _ in found]
        values = [value for _, value in found]
        ax.barh(at, [v - 1 for v in values], thickness * 0.9, left=1, color=colour, label=label(name))
        for y, value in zip(at, values, strict=True):
            ax.annotate(f"{value:.1f}", (value, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
    ax.set_yticks(range(len(some)), [re.sub(" (Batch|Layer)", r"\n\1", case["name"]) for case in some])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_title("Longer bars, slower peers: a step of gdcore takes 1", loc="left")
    ax.legend(loc="lower right", frameon=True, fontsize=8)


def _strip(ax: Axes, some: list[dict[str, Any]], names: list[str]) -> None:
    for row, name in enumerate(names):
        colour, mark = STYLES.get(name, OTHER)
        values = [case["peers"][name]["ratio"] for case in some if name in case["peers"]]
        ax.plot(values, [row] * len(values), mark, color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        if values:
            ax.plot([statistics.median(values)] * 2, [row - 0.35, row + 0.35], color="black", linewidth=1.5)
    ax.set_yticks(range(len(names)), [label(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_title(f"{len(some)} more networks, a mark each; the line is the median", loc="left")
