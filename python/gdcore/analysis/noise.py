"""Gradient noise: how far the gradient of a mini-batch is from that of all the data (chapter, slides 15-16)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arrays import Data
from .._checks import instance, integer, seed_or_random, shown
from .._figures import BLUE, DASHED, INK, VERMILION, dress, new_axes, save
from .._table import Table
from ..model import Sequential
from .objective import Mode, Objective, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GradientNoise", "gradient_noise"]


@dataclass(frozen=True, eq=False)
class GradientNoise:
    """The noise of mini-batch gradients at one point, predicted and measured.

    Attributes
    ----------
    sigma : float
        σ, the root mean square of |g_n - g| over the rows: g_n is the gradient of row n alone, g their mean ∇E.
    gradient_norm : float
        |g|.
    rows : int
        N, the rows of the data.
    n_batches : int
        Batches drawn for each size.
    replace : bool
        Whether a batch may hold a row more than once.
    batch_sizes : ndarray
        The sizes K, shape (S,).
    predicted : ndarray
        What |g_B - g| is in the root mean square, shape (S,): σ/√K, or σ/√K √((N-K)/(N-1)) without replacement.
    measured : ndarray
        What it was for the batches drawn, shape (S,).
    standard_error : ndarray
        Of `measured`, shape (S,).
    """

    sigma: float
    gradient_norm: float
    rows: int
    n_batches: int
    replace: bool
    batch_sizes: npt.NDArray[np.int64]
    predicted: Vector
    measured: Vector
    standard_error: Vector

    @property
    def ratio(self) -> Vector:
        """Measured over predicted, shape (S,); nan where no noise is predicted."""
        empty = np.full(len(self.predicted), math.nan)
        return np.asarray(np.divide(self.measured, self.predicted, out=empty, where=self.predicted > 0))

    @property
    def slope(self) -> float:
        """Slope of log(measured) against log K: -1/2 with replacement; nan with fewer than two such sizes."""
        noisy = (self.predicted > 0) & (self.measured > 0)
        if len(set(self.batch_sizes[noisy])) < 2:
            return math.nan
        return float(np.polyfit(np.log(self.batch_sizes[noisy]), np.log(self.measured[noisy]), 1)[0])

    @property
    def noise_scale(self) -> float:
        """σ²/|g|²: the batch size whose noise is as long as the gradient (McCandlish et al. 2018, the simple one).

        Far smaller batches mostly add noise, far larger ones mostly repeat what they know. Infinite where ∇E = 0.
        """
        return self.sigma**2 / self.gradient_norm**2 if self.gradient_norm > 0 else math.inf

    def table(self) -> Table:
        """Return a row for each batch size: predicted, measured, its standard error, and their ratio."""
        columns = (self.batch_sizes, self.predicted, self.measured, self.standard_error, self.ratio)
        return Table(
            {"K": int(k), "predicted": float(p), "measured": float(m), "standard error": float(e), "ratio": float(r)}
            for k, p, m, e, r in zip(*columns, strict=True)
        )

    def __str__(self) -> str:
        """Return the table, and what it comes to."""
        return (
            f"{self.table()}\n"
            f"noise of one row σ = {self.sigma:.4g}, gradient |g| = {self.gradient_norm:.4g}, "
            f"noise scale σ²/|g|² = {self.noise_scale:.4g} rows; measured noise falls as K^{self.slope:.3f}"
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Draw predicted and measured noise against the batch size, both axes logarithmic.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; the ending gives the format.

        Returns
        -------
        Axes
            matplotlib's.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        axes = new_axes(path is not None, "GradientNoise.plot")
        order = np.argsort(self.batch_sizes)
        k, noisy = self.batch_sizes[order], self.predicted[order] > 0
        law = "σ/√K" if self.replace else "σ/√K · √((N-K)/(N-1))"
        axes.loglog(k[noisy], self.predicted[order][noisy], color=VERMILION, ls=DASHED, lw=2, label=f"predicted: {law}")
        axes.errorbar(
            k[noisy],
            self.measured[order][noisy],
            yerr=2 * self.standard_error[order][noisy],
            fmt="o",
            ms=7,
            color=BLUE,
            capsize=4,
            label=f"measured: {self.n_batches} batches, ±2 standard errors",
        )
        low, high = axes.get_ylim()
        if noisy.any() and low / 10 <= self.gradient_norm <= high * 10:  # else it would squeeze all the rest
            axes.axhline(self.gradient_norm, color=INK, lw=1.2, ls=":", label=f"|∇E| = {self.gradient_norm:.3g}")
        dress(axes, self._title(), "batch size K (rows)", "distance from ∇E, root mean square", grid="both")
        save(axes, path)
        drawn: Axes = axes
        return drawn

    def _title(self) -> str:
        if not math.isfinite(self.slope):
            return f"Gradient noise of a single row: σ = {self.sigma:.3g}"
        return f"Gradient noise falls as K^{self.slope:.2f}: 100 times the batch leaves {100**self.slope:.2g} of it"


def gradient_noise(
    model: Sequential,
    loss: _core.Loss,
    x: Data,
    y: Data,
    *,
    batch_sizes: Sequence[int] = (1, 10, 100, 1000),
    n_batches: int = 200,
    replace: bool = True,
    seed: int | None = 0,
    mode: Mode = "prediction",
) -> GradientNoise:
    """Measure how far gradients of mini-batches are from that of all the data, and compare with σ/√K.

    The gradient of a batch is the mean of its rows' gradients; the mean of K rows drawn independently is σ/√K away from
    the mean of all, in the root mean square. So 100 times the batch only gives 1/10 of the noise (slides 15-16).

    Parameters
    ----------
    model, loss, x, y
        As for `Objective`. Rows cannot have weights of their own, for a batch's gradient is then no plain mean.
    batch_sizes : sequence of int
        The sizes K, at least 1 each; without replacement at most N.
    n_batches : int
        Batches drawn for each size, at least 2. `measured` is uncertain by some 1/√(2 n_batches) of itself.
    replace : bool
        Whether batches are drawn with replacement, for which σ/√K is exact. Without, as in an epoch of training, the
        noise is smaller by √((N-K)/(N-1)).
    seed : int, optional
        Of the drawing.
    mode : {"training", "prediction"}
        As for `Objective`. In "training", models with `BatchNorm` or `Dropout` are refused: what a row's gradient is
        then depends on the batch that it is in.

    Returns
    -------
    GradientNoise
        ``sigma``, ``predicted``, ``measured``, ``noise_scale``; ``print`` it, or ``plot`` it.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the model is not in float64.
    ValueError
        If a number is out of range, `mode` is "training" for a model whose rows have no gradients of their own, or the
        loss weights rows; and what `Objective` raises.

    Notes
    -----
    Takes N + n_batches · ΣK gradients of single rows and never holds more than one batch and a few vectors (P,).
    """
    objective = Objective(model, loss, x, y, mode=mode)
    sizes = _sizes(batch_sizes)
    integer(n_batches, "n_batches", minimum=2, expected="a number of batches")
    instance(replace, bool, "replace", "True")
    rng = np.random.default_rng(seed_or_random(seed))
    rows = len(objective.x)
    if not replace and max(sizes) > rows:
        raise ValueError(
            f"batch_sizes: got {max(sizes)}; expected at most {rows}, the rows of x, when batches are drawn without "
            "replacement"
        )
    _check_rows_are_alike(objective)
    g = objective.gradient()
    singles = _Batches(objective, 1)
    sigma = math.sqrt(math.fsum(singles.squared_distance(np.array([n]), g) for n in range(rows)) / rows)
    measured = [_measure(objective, g, k, n_batches, replace, rng) for k in sizes]
    k = np.array(sizes, dtype=np.int64)
    left = np.ones(len(k)) if replace else (rows - k) / max(rows - 1, 1)
    return GradientNoise(
        sigma=sigma,
        gradient_norm=float(np.linalg.norm(g)),
        rows=rows,
        n_batches=n_batches,
        replace=replace,
        batch_sizes=k,
        predicted=sigma * np.sqrt(left / k),
        measured=np.array([m.value for m in measured]),
        standard_error=np.array([m.error for m in measured]),
    )


class _Measured(NamedTuple):
    value: float
    error: float


def _measure(
    objective: Objective, g: Vector, k: int, n_batches: int, replace: bool, rng: np.random.Generator
) -> _Measured:
    """Return the root mean square distance from `g` of the gradients of batches of `k` rows, and its standard error."""
    batches, rows = _Batches(objective, k), len(objective.x)
    squares = np.array(
        [batches.squared_distance(rng.choice(rows, size=k, replace=replace), g) for _ in range(n_batches)]
    )
    value = math.sqrt(squares.mean())
    spread = float(squares.std(ddof=1)) / math.sqrt(n_batches)  # of the mean square; d√m = dm / 2√m
    return _Measured(value, spread / (2 * value) if value > 0 else 0.0)


class _Batches:
    """Gradients of batches of `size` rows, one after the other, by one objective over rows that are written anew.

    A new `Objective` for each batch would check data that is known to be good, and allocate the parameters again.
    """

    def __init__(self, objective: Objective, size: int) -> None:
        self._x, self._y = objective.x, objective.y
        start = np.zeros(size, dtype=np.int64)
        x, y = np.take(self._x, start, axis=0), np.take(self._y, start, axis=0)  # contiguous: read where they lie
        self._rows = Objective(objective.model, objective.loss, x, y, mode=objective.mode)

    def squared_distance(self, index: npt.NDArray[np.int64], g: Vector) -> float:
        """Return |g_B - g|² for the batch of these rows."""
        np.take(self._x, index, axis=0, out=self._rows.x)
        np.take(self._y, index, axis=0, out=self._rows.y)
        difference = self._rows.gradient()
        difference -= g
        return float(difference @ difference)


def _sizes(batch_sizes: Sequence[int]) -> list[int]:
    if isinstance(batch_sizes, (str, bytes)) or not hasattr(batch_sizes, "__iter__"):
        raise TypeError(f"batch_sizes: got {shown(batch_sizes)}; expected a sequence of whole numbers, such as (1, 10)")
    sizes = [
        integer(size, f"batch_sizes[{i}]", minimum=1, expected="a number of rows") for i, size in enumerate(batch_sizes)
    ]
    if not sizes:
        raise ValueError("batch_sizes: got none; expected at least one")
    return sizes


def _check_rows_are_alike(objective: Objective) -> None:
    """Refuse what makes a batch's gradient anything but the mean of its rows' own gradients."""
    for layer in objective.model.layers if objective.mode == "training" else ():
        why = {
            _core.BatchNorm: "couples the rows of a batch",
            _core.Dropout: "draws by a row's place in the batch",
        }.get(type(layer))
        if why is not None:
            raise ValueError(
                f"mode: got 'training' for a model with {type(layer).__name__}, which {why}, so that a row has no "
                "gradient of its own; expected 'prediction'"
            )
    if not isinstance(objective.loss, _core.CrossEntropy):
        return
    if objective.loss.class_weights is not None:
        raise ValueError(
            f"loss: got {shown(objective.loss)}, whose class weights make a batch's gradient a weighted mean; expected "
            "one without"
        )
    if objective.y.ndim == 2 and not np.allclose(objective.y.sum(axis=1, dtype=np.float64), 1.0, atol=1e-5):
        raise ValueError("y: got soft targets whose rows do not all sum to 1; expected probabilities")
