"""The figure of `Importances`: the most important columns as bars."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import figures

if TYPE_CHECKING:
    from ..tables.importance import Importances


def draw(result: Importances, path: str | os.PathLike[str] | None, most: int) -> Any:
    """Draw the figure; see `Importances.plot`."""
    order = np.argsort(-result.mean, kind="stable")[:most][::-1]
    axes = figures.new_axes(path is not None, "Importances.plot", size=(7, 1.2 + 0.28 * len(order)))
    at = np.arange(len(order))
    axes.barh(at, result.mean[order], xerr=result.std[order], color=figures.BLUE, ecolor=figures.INK, height=0.7)
    axes.set_yticks(at, [_short(result.names[i]) for i in order])
    axes.axvline(0, color=figures.FRAME, lw=1)
    metric = result.metric.replace("_", " ")
    words = f"how much worse the {metric} becomes when the column is permuted; it is {result.baseline:.3g}"
    figures.dress(axes, _title(result), words, "", grid="x", legend=False)
    figures.save(axes, path)
    return axes


def _title(result: Importances) -> str:
    first = int(result.mean.argmax()) if result.names else 0
    if not result.names or result.mean[first] <= result.std[first]:
        return "No column matters: none has an importance above its standard deviation"
    return f"'{_short(result.names[first])}' matters most"


def _short(name: str) -> str:
    """Return a name that fits, as text: matplotlib would read what is between two dollars as a formula."""
    return (name if len(name) <= 30 else name[:29] + "…").replace("$", r"\$")
