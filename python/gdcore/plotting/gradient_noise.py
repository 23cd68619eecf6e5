"""The figure of `GradientNoise`: predicted and measured noise against the batch size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .figures import BLUE, DASHED, INK, VERMILION, dress, new_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..analysis.noise import GradientNoise


def draw(result: GradientNoise, noisy: npt.NDArray[np.bool_], title: str, path: str | os.PathLike[str] | None) -> Axes:
    """Draw predicted and measured noise; see `GradientNoise.plot`."""
    axes = new_axes(path is not None, "GradientNoise.plot")
    order = np.argsort(result.batch_sizes)
    k, noisy = result.batch_sizes[order], noisy[order]
    law = "σ/√K" if result.replace else "σ/√K · √((N-K)/(N-1))"
    axes.set(xscale="log", yscale="log")
    if not result.note:
        label = f"predicted: {law}"
        axes.plot(k[noisy], result.predicted[order][noisy], color=VERMILION, ls=DASHED, lw=2, label=label)
    axes.errorbar(
        k[noisy],
        result.measured[order][noisy],
        yerr=2 * result.standard_error[order][noisy],
        fmt="o",
        ms=7,
        color=BLUE,
        capsize=4,
        label=f"measured: {result.n_batches} batches, ±2 standard errors",
    )
    low, high = axes.get_ylim()
    if noisy.any() and low / 10 <= result.gradient_norm <= high * 10:  # otherwise it would compress the rest
        axes.axhline(result.gradient_norm, color=INK, lw=1.2, ls=":", label=f"|∇E| = {result.gradient_norm:.3g}")
    dress(axes, title, "batch size K (rows)", "distance from ∇E, root mean square", grid="both")
    save(axes, path)
    drawn: Axes = axes
    return drawn
