"""The figure of `LayerVariances`: mean squares of signals and gradients by layer."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .figures import BLUE, DASHED, GREEN, INK, VERMILION, dress, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..analysis.initialization import LayerVariances


def draw(result: LayerVariances, path: str | os.PathLike[str] | None) -> Axes:
    """Draw E[z²] by layer; see `LayerVariances.plot`."""
    both = result.gradient is not None
    drawn = new_axes(path is not None, "LayerVariances.plot", size=(7, 6.4 if both else 4.2), rows=2 if both else 1)
    axes: Any = drawn[0] if both else drawn
    dense = [index + 1 for index in result.reads]  # indices of the Dense layers' outputs
    z, a = result.mean_square[list(result.reads)], result.mean_square[dense]
    axes.axhline(z[0], color=INK, lw=1, ls=":", label="as at the inputs of the first")
    axes.plot(range(len(z)), z, "o-", ms=5, lw=2, color=BLUE, label="z: what the next Dense layer takes in")
    sums = "a: the weighted sums of the layer"
    axes.plot(range(1, len(a) + 1), a, "s", ls=DASHED, ms=4, lw=1.2, color=VERMILION, label=sums)
    label = "number of the Dense layer (0: inputs)"
    title = result.verdict.rstrip(".").replace(", as", ",\nas")  # two lines, where one is too long
    dress(axes, title, "" if both else label, "mean square over rows and units")
    _log(axes, np.concatenate([z, a]))
    if result.gradient is not None:
        lower, squares = drawn[1], result.gradient[dense]
        lower.plot(range(1, len(a) + 1), squares, "D-", ms=4, lw=1.6, color=GREEN)
        dress(lower, _gradient_title(squares), label, "mean square of ∂E/∂w")
        _log(lower, squares)
        lower.set_xlim(axes.get_xlim())
    save(axes, path)
    upper: Axes = axes
    return upper


def _gradient_title(squares: npt.NDArray[np.float64]) -> str:
    if not (squares > 0).all():
        return "The gradient of the weights is 0 in some layers"
    return f"Gradient of the weights: the last layer's mean square is {squares[-1] / squares[0]:.3g} times the first's"


def _log(axes: Any, values: npt.NDArray[np.float64]) -> None:
    """Use a logarithmic axis of at least one decade for positive values, and whole numbers for the layers."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    if (values > 0).any():
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 10 * low:
            middle = math.sqrt(low * high)
            axes.set_ylim(middle / 10, middle * 10)
