"""The figure of a learning curve. Imported when one is drawn, as matplotlib is slow to import."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from ..internal.checks import shown
from .figures import BLUE, DASHED, INK, VERMILION, dress, new_axes, noun, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..history import _Measurements as Measurements


def learning_curve(
    history: Measurements, path: str | os.PathLike[str] | None, measure: str, log: bool, mode: str
) -> Axes:
    """Draw `measure` and ``val_<measure>`` of `history`; see `History.plot`."""
    if not columns_of(history, measure):
        known = ", ".join(history) or "none yet"
        raise KeyError(f"measure: no column {shown(measure)} or {shown('val_' + measure)}; the columns are {known}")
    axes = new_axes(path is not None, f"{type(history).__name__}.plot")
    draw(axes, history, measure, log, mode)
    save(axes, path)
    drawn: Axes = axes
    return drawn


def columns_of(history: Measurements, measure: str) -> list[str]:
    """Return the columns of a measure: on training data, on validation data."""
    return [name for name in (measure, f"val_{measure}") if name in history]


def draw(axes: Any, history: Measurements, measure: str, log: bool, mode: str | None) -> None:
    """Draw a measure into axes, and mark its best value; without a mode, it is not known which one is the best."""
    columns, index = columns_of(history, measure), history._index
    numbers = history[index]
    dot = "o" if history.height == 1 else None
    for name in columns:
        validation = name.startswith("val_")
        label, colour = ("validation", VERMILION) if validation else ("training", BLUE)
        axes.plot(numbers, history[name], color=colour, lw=2, ls="-" if validation else DASHED, marker=dot, label=label)
    best = None if mode is None else _best(history, columns[-1], mode)
    if best is not None and mode is not None:
        chosen = _chosen(history, columns[-1], best)
        label = "best" if chosen is None else f"chosen by {chosen[2]}"
        _mark(axes, label, index, best if chosen is None else chosen[:2], numbers, mode)
    lowest = min((v for name in columns for v in history[name] if math.isfinite(v)), default=0.0)
    _scale(axes, log, lowest)
    title = _title(history, measure, columns, best, mode) if mode else measure.replace("_", " ").capitalize()
    dress(axes, title, index, measure.replace("_", " "))


def _best(history: Measurements, column: str, mode: str) -> tuple[int, float] | None:
    try:
        best = history._best(column, mode)
    except ValueError:
        return None  # nothing finite was measured
    return best, history[column][history[history._index].index(best)]


def _chosen(history: Measurements, column: str, best: tuple[int, float]) -> tuple[int, float, str] | None:
    """Return the epoch that `EarlyStopping` chose, its value, and by what; None if it is the best of that column."""
    chosen = history._chosen
    if chosen is None or (chosen.monitor == column and chosen.epoch == best[0]):
        return None
    value = history[column][history[history._index].index(chosen.epoch)]
    return (chosen.epoch, value, noun(chosen.monitor)) if math.isfinite(value) else None


def _mark(axes: Any, label: str, index: str, best: tuple[int, float], numbers: list[Any], mode: str) -> None:
    """Circle the best epoch or step and write its number, on the side with more space."""
    at, value = best
    axes.axvline(at, color=INK, lw=0.8, ls=":", zorder=0)
    axes.plot([at], [value], "o", ms=8, mfc="white", mec=INK, mew=1.6, zorder=5)
    left, above = at - numbers[0] > (numbers[-1] - numbers[0]) / 2, mode == "min"
    axes.annotate(
        f"{label}: {index} {at}\n{value:.4g}",
        (at, value),
        xytext=(-9 if left else 9, 14 if above else -14),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom" if above else "top",
        fontsize=9,
        color=INK,
        bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8},
        zorder=4,
    )


def _scale(axes: Any, log: bool, lowest: float) -> None:
    """Use whole numbers for epochs and steps, and a margin around the curves."""
    if log:
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.02, y=0.15)
    if not log and axes.get_ylim()[0] < 0 <= lowest:
        axes.set_ylim(bottom=0)  # a measure of at least 0 gets no margin below 0


def _title(history: Measurements, measure: str, columns: list[str], best: tuple[int, float] | None, mode: str) -> str:
    """Return the title: one sentence about the result."""
    what = measure.replace("_", " ")
    extreme, better = ("lowest", "falling") if mode == "min" else ("highest", "rising")
    if best is None:
        return f"The {what} was never a finite number"
    index, (at, value), last = history._index, best, history._last_index()
    where = f"{'in' if index == 'epoch' else 'at'} {index} {at}"
    chosen = _chosen(history, columns[-1], (at, value))
    if chosen is not None:
        start = f"Epoch {chosen[0]} was chosen by {chosen[2]}; the {what} was {extreme}"
        return f"{start} there too" if chosen[0] == at else f"{start} {where}"
    if not columns[-1].startswith("val_"):
        return f"Training {what}: {value:.4g} at best, {where} of {last} (no validation data)"
    if last == 1:
        return f"Validation {what} after the only {index}: {value:.4g}"
    if at == last:
        return f"Validation {what} was still {better} after {last} {index}s: training longer may help"
    return f"Validation {what} was {extreme} {where}, and no better in the {last - at} after it"
