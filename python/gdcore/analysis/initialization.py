"""Checks of an initialisation: second moments layer by layer, and units that stay equal (chapter, slides 17-20)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Data
from ..internal.checks import instance, real, shown
from ..internal.display import Shown
from ..internal.inputs import to_inputs
from ..internal.labels import Targets
from ..internal.layer_names import by_layer, path_of
from ..model import Sequential
from ..table import Table
from .objective import Mode, Objective, Vector, in_float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["IdenticalUnits", "LayerVariances", "identical_units", "variance_by_layer"]

AT_ONCE = 8  # layers whose outputs are in memory at the same time
STEADY = math.sqrt(2.0)  # E[z²] is called flat if it changes by at most this factor per layer, ...
FLAT = 10.0  # ... and by at most this factor from the inputs to the last layer
SIGMAS = 3.0  # standard deviations of random change that are called drifting, not vanishing or exploding


@dataclass(frozen=True, eq=False)
class LayerVariances(Shown):
    """Second moments of the outputs of a model's layers, and of the gradient.

    All arrays have an element for the inputs and then one for each layer: shape (L+1,).

    Attributes
    ----------
    layers : tuple of str
        "inputs", then names such as "layers.0 Dense".
    widths : tuple of int
        Numbers of outputs.
    mean_square : ndarray
        E[z²], the mean over rows and units.
    variance : ndarray
        E[z²] - E[z]², over rows and units together.
    zeros : ndarray
        Share of outputs that are exactly 0: about 0.5 for a ReLU with good initialisation.
    dead : ndarray
        Share of units whose output is 0 for every row: dead ReLUs do not train.
    gradient : ndarray or None
        Mean square of ∂E/∂w over the weights of each Dense layer, nan elsewhere; None if no loss was given.
    reads : tuple of int
        For each Dense layer, the index of its input in the arrays: the z of slides 18-20.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    mean_square: Vector
    variance: Vector
    zeros: Vector
    dead: Vector
    gradient: Vector | None
    reads: tuple[int, ...]

    @property
    def factor(self) -> float:
        """The factor of E[z²] from the input of one Dense layer to the next, by a linear fit of log E[z²].

        He initialisation gives 1 with ReLU, weights of variance 1/M give 1/2. nan with fewer than two Dense layers, or
        if E[z²] is 0 or not finite.
        """
        z = self.mean_square[list(self.reads)]
        if len(z) < 2 or not (np.isfinite(z) & (z > 0)).all():
            return math.nan
        return float(np.exp(np.polyfit(np.arange(len(z)), np.log(z), 1)[0]))

    @property
    def verdict(self) -> str:
        """One sentence: flat, vanishing, exploding, drifting or dead.

        Flat means a change by at most a factor √2 per Dense layer and 10 in total. A larger change is called drifting
        if random weights of the right scale can cause it: E[z²] after M random ReLU units has a relative standard
        deviation of √(5/M), so its logarithm after L layers has the standard deviation s = √(5 Σ 1/M) and the mean
        -½ s². 3 standard deviations are allowed.
        """
        z = self.mean_square[list(self.reads)]
        if len(z) < 2:
            return "One Dense layer: nothing to compare."
        for index, value in zip(self.reads, z, strict=True):
            if not math.isfinite(value):
                return f"Exploding: E[z²] overflows at {self.layers[index]}."
            if value == 0:
                return f"Dead: all outputs of {self.layers[index]} are 0."
        steps, whole = len(z) - 1, z[-1] / z[0]
        change, scatter = math.log(whole), sum(5.0 / self.widths[index] for index in self.reads[1:])
        word, end = ("Exploding" if whole > 1 else "Vanishing"), "."
        if abs(change) <= min(math.log(FLAT), steps * math.log(STEADY)):
            word = "Flat"
        elif abs(change + scatter / 2) <= SIGMAS * math.sqrt(scatter):
            word, end = "Drifting", ", as so few random units may by chance."
        return f"{word}: E[z²] changes by a factor {self.factor:.3g} per Dense layer, {whole:.3g} over {steps}{end}"

    def table(self) -> Table:
        """Return a row for the inputs and for each layer."""
        rows: list[dict[str, Any]] = []
        for i, layer in enumerate(self.layers):
            square = float(self.mean_square[i])
            row = {
                "layer": layer,
                "outputs": self.widths[i],
                "E[z²]": square,
                "variance": float(self.variance[i]),
                "to layer before": _ratio(square, float(self.mean_square[i - 1])) if i else None,
                "to inputs": _ratio(square, float(self.mean_square[0])),
                "zeros": float(self.zeros[i]),
                "dead units": float(self.dead[i]),
            }
            if self.gradient is not None:
                row["E[(∂E/∂w)²]"] = None if math.isnan(self.gradient[i]) else float(self.gradient[i])
            rows.append(row)
        return Table(rows)

    def _parts(self) -> tuple[Table | str, ...]:
        """Return the table and the verdict."""
        return self.table(), self.verdict

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Plot E[z²] against the index of the Dense layer, on a logarithmic axis; below it the gradient's, if known.

        Parameters
        ----------
        path : path, optional
            File to save the figure in; the suffix gives the format.

        Returns
        -------
        Axes
            The matplotlib axes of the upper panel.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.layer_variances import draw

        return draw(self, path)


@explained
def variance_by_layer(
    model: Sequential,
    x: Data,
    *misplaced: object,
    loss: _core.Loss | None = None,
    y: Data | None = None,
    mode: Mode = "training",
) -> LayerVariances:
    """Report E[z²] and the variance of every layer's outputs, to see whether signals vanish, stay or explode.

    For a = W z with weights of variance ε² over M inputs, E[a²] = M ε² E[z²], and ReLU keeps half of it. He's
    ε = √(2/M) therefore keeps E[z²] constant through any number of layers; ε = 1/√M multiplies it by 2^-L (slides
    18-20).

    Parameters
    ----------
    model : Sequential
        A model in float32 or float64, computed in float64 (a float32 model in a copy), including frozen layers.
    x : array
        Inputs (N, in_features); a few hundred rows are enough.
    loss : Loss, optional
        With `y`, the mean square of the gradient is reported for the weights of every Dense layer.
    y : array, optional
        Targets.
    mode : {"training", "prediction"}
        As for `Objective`.

    Returns
    -------
    LayerVariances
        ``mean_square``, ``variance``, ``zeros``, ``dead``, ``gradient``, ``factor``; ``print`` it, or ``plot`` it.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or loss and targets are given by position, as in other calls.
    ValueError
        If only one of `loss` and `y` is given; and as for `Objective`.

    Notes
    -----
    Each layer's outputs take a separate forward pass, so L layers take L passes.
    """
    if misplaced or isinstance(x, _core.Loss):
        raise TypeError(
            f"x: got {shown((x, *misplaced))}; expected inputs alone: variance_by_layer(model, x, loss=loss, y=y)"
        )
    if (loss is None) != (y is None):
        missing, there = ("loss", "y") if loss is None else ("y", "loss")
        raise ValueError(f"{missing}: got None together with {there}; expected both, or neither")
    instance(model, Sequential, "model", "gd.Sequential(gd.Dense(2, 1))")
    if model.dtype != "float64" or model.frozen():
        model = in_float64(model)
        model.unfreeze()
    inputs = to_inputs(x, "x", model.feature_names)
    asked = loss is not None
    targets: Any = y
    if loss is None or y is None:  # an Objective needs a loss and targets
        rows = len(inputs.array) if inputs.array.ndim else 0
        loss, targets = _core.MeanSquaredError(), Targets(np.zeros((rows, model.out_features)))
    objective = Objective(model, loss, inputs, targets, mode=mode)
    layers = model.layers
    moments = [_moments(np.ascontiguousarray(objective.x, dtype=np.float64))]
    for first in range(0, len(layers), AT_ONCE):
        group = list(range(first, min(first + AT_ONCE, len(layers))))
        moments += [_moments(np.asarray(outputs)) for outputs in objective.core.outputs(group)]
    return LayerVariances(
        layers=("inputs", *(f"{path_of(layer, i)} {type(layer).__name__}" for i, layer in enumerate(layers))),
        widths=tuple(int(m[0]) for m in moments),
        mean_square=np.array([m[1] for m in moments]),
        variance=np.array([m[2] for m in moments]),
        zeros=np.array([m[3] for m in moments]),
        dead=np.array([m[4] for m in moments]),
        gradient=_gradient_squares(objective.arrays(objective.gradient()), layers) if asked else None,
        reads=tuple(i for i, layer in enumerate(layers) if isinstance(layer, _core.Dense)),
    )


@np.errstate(over="ignore", invalid="ignore")  # overflow gives infinity, and the verdict "Exploding"
def _moments(z: Vector) -> tuple[int, float, float, float, float]:
    """Return width, mean square, variance, share of zeros, and share of units that are 0 in all rows."""
    zero = z == 0
    return z.shape[1], float(np.square(z).mean()), float(z.var()), float(zero.mean()), float(zero.all(axis=0).mean())


def _gradient_squares(gradients: dict[str, Vector], layers: Sequence[_core.Layer]) -> Vector:
    squares = np.full(len(layers) + 1, math.nan)
    for i, arrays in by_layer(gradients, layers).items():
        if "weight" in arrays:
            squares[i + 1] = np.square(arrays["weight"]).mean()
    return squares


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


@dataclass(frozen=True)
class IdenticalUnits(Shown):
    """Hidden units with equal incoming and outgoing weights, which gradient descent keeps equal.

    Attributes
    ----------
    units : dict
        Number of units of each hidden Dense layer, by name ("layers.0").
    groups : dict
        The groups of two or more identical units of each layer, by name: tuples of ascending indices.
    tolerance : float
        The largest difference allowed.
    """

    units: dict[str, int]
    groups: dict[str, tuple[tuple[int, ...], ...]]
    tolerance: float

    @property
    def redundant(self) -> int:
        """The number of units that can be removed without loss of capacity: all but one of each group."""
        return sum(len(group) - 1 for groups in self.groups.values() for group in groups)

    def table(self) -> Table:
        """Return a row for each hidden Dense layer."""
        return Table(
            {
                "layer": name,
                "units": units,
                "groups": len(self.groups[name]),
                "identical units": sum(len(group) for group in self.groups[name]),
                "distinct units": units - sum(len(group) - 1 for group in self.groups[name]),
            }
            for name, units in self.units.items()
        )

    def _parts(self) -> tuple[Table | str, ...]:
        """Return the table and a summary."""
        if not self.units:
            return ("The model has no hidden Dense layer.",)
        if not self.redundant:
            return self.table(), "No two hidden units are identical."
        return self.table(), f"{self.redundant} of {sum(self.units.values())} hidden units only repeat another one."


@explained
def identical_units(model: Sequential, *, tolerance: float = 0.0) -> IdenticalUnits:
    """Find hidden units with the same incoming and outgoing weights: equal gradients keep them equal (slide 17).

    Compares a unit's incoming weights, its bias, γ and β of the norms after it, and its weights in the next Dense
    layer. The masks of `Dropout` separate units, so units with Dropout after them count as different.

    Parameters
    ----------
    model : Sequential
        A model of either dtype.
    tolerance : float
        Largest difference between values of units that count as identical, at least 0. Training may round equal units
        differently in the last bits: allow for that in a trained model.

    Returns
    -------
    IdenticalUnits
        ``groups["layers.0"]`` is a tuple of groups of indices; ``print`` it.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `tolerance` is negative or not finite, or the model has a `Residual`.
    """
    instance(model, Sequential, "model", "gd.Sequential(gd.Dense(2, 1))")
    real(tolerance, "tolerance", low=0.0)
    layers = model.layers
    parameters = by_layer(model.parameters(), layers)
    if any(isinstance(layer, _core.Residual) for layer in layers):
        raise ValueError("model: got a Residual, whose skip tells its units apart; expected a chain of Dense layers")
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, _core.Dense)]
    units: dict[str, int] = {}
    groups: dict[str, tuple[tuple[int, ...], ...]] = {}
    for first, following in itertools.pairwise(dense):
        # a column for each parameter of a unit: weights (units, in) as they are, vectors (units,) as one column
        numbers = [np.asarray(v) for i in range(first, following) for v in parameters.get(i, {}).values()]
        numbers.append(np.asarray(parameters[following]["weight"]).T)
        table = np.concatenate([v.reshape(len(v), -1) for v in numbers], axis=1)
        masked = any(isinstance(layer, _core.Dropout) and layer.p > 0 for layer in layers[first:following])
        path = path_of(layers[first], first)
        units[path] = len(table)
        groups[path] = () if masked else _groups(table, float(tolerance))
    return IdenticalUnits(units=units, groups=groups, tolerance=float(tolerance))


def _groups(table: npt.NDArray[Any], tolerance: float) -> tuple[tuple[int, ...], ...]:
    """Return groups of rows that differ by at most `tolerance` from the group's first, in ascending order.

    The rows are sorted by the column with the largest range; only rows within `tolerance` in it are compared.
    """
    key = table[:, int(np.argmax(np.ptp(table, axis=0)))].astype(np.float64)
    order = np.argsort(key, kind="stable")
    ends = np.searchsorted(key[order], key[order] + tolerance, side="right")
    taken = np.zeros(len(table), dtype=bool)
    found = []
    for position, row in enumerate(order):
        if taken[row]:
            continue
        near = order[position + 1 : ends[position]]
        near = near[~taken[near]]
        same = near[(np.abs(table[near] - table[row]) <= tolerance).all(axis=1)]
        if len(same):
            taken[same] = True
            found.append(tuple(sorted(int(i) for i in (row, *same))))
    return tuple(sorted(found))
