"""Gradient noise: how far the gradient of a mini-batch is from that of all the data (chapter, slides 15-16)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.checks import flag, integer, is_iterable, seed_or_random, shown
from ..internal.labels import Targets
from ..model import Sequential
from ..table import Table
from ..trainer import Trainer
from .objective import Mode, Objective, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GradientNoise", "gradient_noise"]

DRAWS = 16  # of dropout's masks, over which the gradient of all rows is averaged
ROUNDING = 1e-9  # of the gradient: noise below it is none


@dataclass(frozen=True, eq=False)
class GradientNoise:
    """The noise of mini-batch gradients at one point, predicted and measured.

    Attributes
    ----------
    sigma : float
        σ, the root mean square of |g_n - g| over the rows: g_n is the gradient of row n alone, g their mean ∇E. nan
        where rows have no gradients of their own.
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
        What |g_B - g| is in the root mean square, shape (S,): σ/√K, or σ/√K √((N-K)/(N-1)) without replacement. nan
        where σ is.
    measured : ndarray
        What it was for the batches drawn, shape (S,).
    standard_error : ndarray
        Of `measured`, shape (S,).
    note : str
        Why rows have no gradients of their own; empty where they have.
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
    note: str = ""

    @property
    def ratio(self) -> Vector:
        """Measured over predicted, shape (S,); nan where nothing, or no noise, is predicted."""
        empty = np.full(len(self.predicted), math.nan)
        return np.asarray(np.divide(self.measured, self.predicted, out=empty, where=self.predicted > 0))

    @property
    def slope(self) -> float:
        """Slope of log(measured) against log K: -1/2 with replacement; nan with fewer than two such sizes."""
        noisy = self._noisy
        if len(set(self.batch_sizes[noisy])) < 2:
            return math.nan
        return float(np.polyfit(np.log(self.batch_sizes[noisy]), np.log(self.measured[noisy]), 1)[0])

    @property
    def _noisy(self) -> npt.NDArray[np.bool_]:
        """At which sizes there is noise, and not only rounding: not for batches of all the rows."""
        rounding = ROUNDING * max(self.gradient_norm, float(self.measured.max()))
        return np.asarray((self.measured > rounding) & ~(self.predicted == 0))

    @property
    def _course(self) -> str:
        return "grows" if self.slope > 0 else "falls"

    @property
    def noise_scale(self) -> float:
        """σ²/|g|²: the batch size whose noise is as long as the gradient (McCandlish et al. 2018, the simple one).

        Far smaller batches mostly add noise, far larger ones mostly repeat what they know. Infinite where ∇E = 0, nan
        where σ is.
        """
        if math.isnan(self.sigma):
            return math.nan
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
        facts = f"gradient |g| = {self.gradient_norm:.4g}, "
        if not self.note:
            facts = f"noise of one row σ = {self.sigma:.4g}, {facts}noise scale σ²/|g|² = {self.noise_scale:.4g} rows; "
        why = f"\nnothing is predicted: {self.note}" if self.note else ""
        return f"{self.table()}\n{facts}measured noise {self._course} as K^{self.slope:.3f}{why}"

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
        from ..plotting.gradient_noise import draw

        return draw(self, self._noisy, self._title(), path)

    def _title(self) -> str:
        if math.isfinite(self.slope):
            left = f"100 times the batch leaves {100**self.slope:.2g} of it"
            return f"Gradient noise {self._course} as K^{self.slope:.2f}: {left}"
        if self.note:
            return f"Gradient noise of a batch of {self.batch_sizes[0]} rows: {self.measured[0]:.3g}"
        return f"Gradient noise of a single row: σ = {self.sigma:.3g}"


@explained
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
        As for `Objective`. In "training", a row's gradient depends on the batch that it is in where `BatchNorm` takes
        the batch's mean and spread, and `Dropout` draws anew for every batch. Then nothing is predicted, and `measured`
        is the distance from g, the gradient of all rows in one batch: for `Dropout` the mean over 16 draws.

    Returns
    -------
    GradientNoise
        ``sigma``, ``predicted``, ``measured``, ``noise_scale``; ``print`` it, or ``plot`` it.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the model is not in float64.
    ValueError
        If a number is out of range (a batch that `BatchNorm` trains on has at least 2 rows), or the loss weights rows;
        and what `Objective` raises.

    Notes
    -----
    Takes 2 N + n_batches · ΣK gradients of single rows, with `Dropout` 16 N + n_batches · ΣK, and never holds more than
    one batch and a few vectors (P,).
    """
    objective = Objective(model, loss, x, y, mode=mode)
    sizes = _sizes(batch_sizes)
    integer(n_batches, "n_batches", minimum=2, expected="a number of batches")
    replace = flag(replace, "replace")
    rng = np.random.default_rng(seed_or_random(seed))
    rows = len(objective.x)
    if not replace and max(sizes) > rows:
        raise ValueError(
            f"batch_sizes: got {max(sizes)}; expected at most {rows}, the rows of x, when batches are drawn without "
            "replacement"
        )
    _check_rows_are_alike(objective)
    layers = [type(layer) for layer in objective.model.layers if mode == "training" and _couples(layer)]
    if _core.BatchNorm in layers and min(sizes) < 2:
        raise ValueError(
            "batch_sizes: got 1; expected at least 2 rows, of which BatchNorm takes the spread in training"
        )
    masks = _Masks(objective, rng) if _core.Dropout in layers else None
    g = objective.gradient() if masks is None else masks.mean_gradient()
    sigma = math.nan
    if not layers:
        singles = _Batches(objective, 1)
        sigma = math.sqrt(math.fsum(singles.squared_distance(np.array([n]), g) for n in range(rows)) / rows)
    measured = [_measure(_Batches(objective, k, masks), g, k, n_batches, replace, rng) for k in sizes]
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
        note=_note(layers),
    )


class _Measured(NamedTuple):
    value: float
    error: float


def _measure(
    batches: _Batches, g: Vector, k: int, n_batches: int, replace: bool, rng: np.random.Generator
) -> _Measured:
    """Return the root mean square distance from `g` of the gradients of batches of `k` rows, and its standard error."""
    draws = (rng.choice(batches.rows, size=k, replace=replace) for _ in range(n_batches))
    squares = np.array([batches.squared_distance(rows, g) for rows in draws])
    value = math.sqrt(squares.mean())
    spread = float(squares.std(ddof=1)) / math.sqrt(n_batches)  # of the mean square; d√m = dm / 2√m
    return _Measured(value, spread / (2 * value) if value > 0 else 0.0)


class _Batches:
    """Gradients of batches of `size` rows, one after the other, by one objective over rows that are written anew.

    A new `Objective` for each batch would check data that is known to be good, and allocate the parameters again; only
    new `masks` need one.
    """

    def __init__(self, objective: Objective, size: int, masks: _Masks | None = None) -> None:
        self._x, self._y, self._masks, self.rows = (
            _readable(objective.x),
            _readable(objective.y),
            masks,
            len(objective.x),
        )
        start = np.zeros(size, dtype=np.int64)
        x, y = np.take(self._x, start, axis=0), np.take(self._y, start, axis=0)  # contiguous: the core keeps no copies
        self._batch = Objective(objective.model, objective.loss, x, Targets(y), mode=objective.mode)

    def squared_distance(self, index: npt.NDArray[np.int64], g: Vector) -> float:
        """Return |g_B - g|² for the batch of these rows."""
        batch = self._batch
        np.take(self._x, index, axis=0, out=batch.x)
        np.take(self._y, index, axis=0, out=batch.y)
        difference = batch.gradient() if self._masks is None else self._masks.gradient(batch)
        difference -= g
        return float(difference @ difference)


def _readable(array: Array) -> Array:
    """Return an array of a type that the core reads where it lies; of float16 it would keep a copy."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


class _Masks:
    """Gradients with new masks of dropout each time; those of an `Objective` stay the same."""

    def __init__(self, objective: Objective, rng: np.random.Generator) -> None:
        self._whole, self._rng = objective, rng
        self._trainer = Trainer(objective.model.clone(), objective.loss, optimizer=_core.SGD(1.0))

    def gradient(self, batch: Objective) -> Vector:
        """Return the gradient of a batch."""
        self._trainer.steps = int(self._rng.integers(2**32))  # what dropout draws by, beside the seed
        return Objective(self._trainer.model, batch.loss, batch.x, Targets(batch.y), mode=batch.mode).gradient()

    def mean_gradient(self) -> Vector:
        """Return the mean over some draws of the gradient of all rows."""
        total = self.gradient(self._whole)
        for _ in range(DRAWS - 1):
            total += self.gradient(self._whole)
        return total / DRAWS


def _sizes(batch_sizes: Sequence[int]) -> list[int]:
    if isinstance(batch_sizes, (str, bytes, Mapping)) or not is_iterable(batch_sizes):
        raise TypeError(f"batch_sizes: got {shown(batch_sizes)}; expected a sequence of whole numbers, such as (1, 10)")
    sizes = [
        integer(size, f"batch_sizes[{i}]", minimum=1, expected="a number of rows") for i, size in enumerate(batch_sizes)
    ]
    if not sizes:
        raise ValueError("batch_sizes: got none; expected at least one")
    return sizes


def _couples(layer: _core.Layer) -> bool:
    """Return whether a row's gradient depends, in training, on the batch that it is in."""
    return isinstance(layer, _core.BatchNorm) or (isinstance(layer, _core.Dropout) and layer.p > 0)


def _note(layers: list[type[_core.Layer]]) -> str:
    """Return what the layers that couple do to a row's gradient."""
    whys = {
        _core.BatchNorm: "BatchNorm couples the rows of a batch",
        _core.Dropout: "Dropout draws anew for each batch",
    }
    said = " and ".join(why for kind, why in whys.items() if kind in layers)
    return f"{said}, so that a row has no gradient of its own" if said else ""


def _check_rows_are_alike(objective: Objective) -> None:
    """Refuse losses that make a batch's gradient a weighted mean of its rows' gradients."""
    if not isinstance(objective.loss, _core.CrossEntropy):
        return
    if objective.loss.class_weights is not None:
        raise ValueError(
            f"loss: got {shown(objective.loss)}, whose class weights make a batch's gradient a weighted mean; expected "
            "one without"
        )
    if objective.y.ndim == 2 and not np.allclose(objective.y.sum(axis=1, dtype=np.float64), 1.0, atol=1e-5):
        raise ValueError("y: got soft targets whose rows do not all sum to 1; expected probabilities")
