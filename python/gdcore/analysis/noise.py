"""Gradient noise: the distance of mini-batch gradients from the gradient of all the data (chapter, slides 15-16)."""

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
from ..internal.class_weights import numeric
from ..internal.display import Shown
from ..internal.labels import Targets
from ..internal.layer_names import all_layers
from ..model import Sequential
from ..table import Table
from ..trainer import Trainer
from .objective import Mode, Objective, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GradientNoise", "gradient_noise"]

DRAWS = 16  # dropout masks over which the gradient of all rows is averaged
ROUNDING = 1e-9  # noise below this, relative to the gradient, counts as rounding


@dataclass(frozen=True, eq=False)
class GradientNoise(Shown):
    """The noise of mini-batch gradients at one point, predicted and measured.

    Attributes
    ----------
    sigma : float
        σ, the root mean square of |g_n - g| over the rows: g_n is the gradient of row n alone, g their mean ∇E. nan if
        the gradient of a row depends on its batch.
    gradient_norm : float
        |g|.
    rows : int
        N, the rows of the data.
    n_batches : int
        Batches drawn for each size.
    replace : bool
        Whether batches are drawn with replacement.
    batch_sizes : ndarray
        The sizes K, shape (S,).
    predicted : ndarray
        Predicted root mean square of |g_B - g|, shape (S,): σ/√K, or σ/√K √((N-K)/(N-1)) without replacement. nan if σ
        is nan.
    measured : ndarray
        Root mean square of |g_B - g| over the batches drawn, shape (S,).
    standard_error : ndarray
        Standard error of `measured`, shape (S,).
    note : str
        Why the gradient of a row depends on its batch; empty if it does not.
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
        """Measured divided by predicted, shape (S,); nan where the prediction is nan or 0."""
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
        """Mask of the sizes with noise above rounding; False for batches of all the rows."""
        rounding = ROUNDING * max(self.gradient_norm, float(self.measured.max()))
        return np.asarray((self.measured > rounding) & ~(self.predicted == 0))

    @property
    def _course(self) -> str:
        return "grows" if self.slope > 0 else "falls"

    @property
    def noise_scale(self) -> float:
        """σ²/|g|²: the batch size with noise as large as the gradient (McCandlish et al. 2018, the simple noise scale).

        The gradient of a much smaller batch is mostly noise; a much larger batch gains little. Infinite if ∇E = 0, nan
        if σ is nan.
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

    def _parts(self) -> tuple[Table | str, ...]:
        """Return the table and a summary."""
        facts = f"gradient |g| = {self.gradient_norm:.4g}, "
        if not self.note:
            facts = f"noise of one row σ = {self.sigma:.4g}, {facts}noise scale σ²/|g|² = {self.noise_scale:.4g} rows; "
        why = f"\nnothing is predicted: {self.note}" if self.note else ""
        return self.table(), f"{facts}measured noise {self._course} as K^{self.slope:.3f}{why}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Plot predicted and measured noise against the batch size, both axes logarithmic.

        Parameters
        ----------
        path : path, optional
            File to save the figure in; the suffix gives the format.

        Returns
        -------
        Axes
            The matplotlib axes.

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
    """Measure the distance of mini-batch gradients from the gradient of all the data, and compare it with σ/√K.

    The gradient of a batch is the mean of its rows' gradients. The mean over K independent rows has a root mean square
    distance of σ/√K from the mean over all rows. So a batch 100 times as large has 1/10 of the noise (slides 15-16).

    Parameters
    ----------
    model, loss, x, y
        As for `Objective`. Rows cannot have weights, because a batch's gradient is then a weighted mean.
    batch_sizes : sequence of int
        The sizes K, at least 1 each; without replacement at most N.
    n_batches : int
        Batches drawn for each size, at least 2. `measured` has a relative error of about 1/√(2 n_batches).
    replace : bool
        Whether batches are drawn with replacement, for which σ/√K is exact. Without replacement, as in an epoch of
        training, the noise is smaller by √((N-K)/(N-1)).
    seed : int, optional
        Seed of the batches.
    mode : {"training", "prediction"}
        As for `Objective`. In "training", the gradient of a row depends on its batch if the model has `BatchNorm`,
        which uses the batch's mean and standard deviation, or `Dropout`, which draws new masks for every batch. Then
        nothing is predicted, and `measured` is the distance from g, the gradient of all rows in one batch: for
        `Dropout` the mean over 16 draws.

    Returns
    -------
    GradientNoise
        ``sigma``, ``predicted``, ``measured``, ``noise_scale``; ``print`` it, or ``plot`` it.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or the model is not in float64.
    ValueError
        If an argument is out of range (`BatchNorm` needs batches of at least 2 rows in training), or the loss weights
        rows; and as for `Objective`.

    Notes
    -----
    Computes 2 N + n_batches · ΣK gradients of single rows, with `Dropout` 16 N + n_batches · ΣK. The memory needed is
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
    coupling = [layer for layer in all_layers(objective.model.layers) if mode == "training" and _couples(layer)]
    layers = [type(layer) for layer in coupling]
    if _core.BatchNorm in layers and min(sizes) < 2:
        raise ValueError("batch_sizes: got 1; expected at least 2 rows, as BatchNorm needs their variance in training")
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
    """Gradients of batches of `size` rows: one objective, whose rows are overwritten for each batch.

    A new `Objective` for each batch would check valid data again, and allocate the parameters again; only new `masks`
    need one.
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
    """Return an array of a type that the core reads in place; float16 becomes float32, as the core would copy it."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


class _Masks:
    """Gradients with new dropout masks for each batch; the masks of an `Objective` do not change."""

    def __init__(self, objective: Objective, rng: np.random.Generator) -> None:
        self._whole, self._rng = objective, rng
        self._trainer = Trainer(objective.model.clone(), objective.loss, optimizer=_core.SGD(1.0))

    def gradient(self, batch: Objective) -> Vector:
        """Return the gradient of a batch."""
        self._trainer.steps = int(self._rng.integers(2**32))  # dropout masks depend on the seed and the step
        return Objective(self._trainer.model, batch.loss, batch.x, Targets(batch.y), mode=batch.mode).gradient()

    def mean_gradient(self) -> Vector:
        """Return the gradient of all rows, averaged over `DRAWS` draws of the masks."""
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
    """Return whether a layer makes a row's gradient depend on its batch in training."""
    return isinstance(layer, _core.BatchNorm) or (isinstance(layer, _core.Dropout) and layer.p > 0)


def _note(layers: list[type[_core.Layer]]) -> str:
    """Return why the given layers make a row's gradient depend on its batch; empty without layers."""
    whys = {
        _core.BatchNorm: "BatchNorm couples the rows of a batch",
        _core.Dropout: "Dropout draws anew for each batch",
    }
    said = " and ".join(why for kind, why in whys.items() if kind in layers)
    return f"{said}, so that a row has no gradient of its own" if said else ""


def _check_rows_are_alike(objective: Objective) -> None:
    """Refuse losses that make a batch's gradient a weighted mean of its rows' gradients."""
    if numeric(objective.loss) is not None:
        raise ValueError(
            f"loss: got {shown(objective.loss)}, whose class weights make a batch's gradient a weighted mean; expected "
            "one without"
        )
    soft = isinstance(objective.loss, _core.CrossEntropy) and objective.y.ndim == 2
    if soft and not np.allclose(objective.y.sum(axis=1, dtype=np.float64), 1.0, atol=1e-5):
        raise ValueError("y: got soft targets whose rows do not all sum to 1; expected probabilities")
