"""`PiecewiseLinear`: piecewise-linear encoding of numbers as a layer, with edges fitted to data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from . import _core
from .internal.arguments import explained
from .internal.arrays import Data
from .internal.bins import distinct_edges, quantile_edges, split_target, tree_edges
from .internal.checks import integer, shown
from .internal.features import FeatureNames
from .internal.features import feature_names as names_of
from .internal.inputs import Inputs, to_inputs
from .internal.numbers import check_numbers

__all__ = ["PiecewiseLinear"]


@explained
class PiecewiseLinear(_core.PiecewiseLinear):
    """Piecewise-linear encoding of numbers (Gorishniy et al. 2022), which makes networks accurate on tables.

    A column x with the edges b₀ < b₁ < ... < b_T becomes T numbers (x - b_(t-1)) / (b_t - b_(t-1)), limited to 0 to 1;
    the first is not limited below and the last not above, unless `clip`. A `Dense` layer after it then learns a
    piecewise-linear function of each column. The output is [the other columns, in their order | the new columns of each
    chosen column, in the order chosen]. There are no trained parameters; the edges are saved with the model, as buffers
    "start" and "width" of all bins. The gradient with respect to x at an edge is that of the bin above.

    Parameters
    ----------
    edges : sequence of sequences of float, optional
        The edges of each chosen column, at least 2, increasing, instead of `fit`. The model's dtype must tell them
        apart.
    columns : sequence of int or str, optional
        The columns to encode: numbers of columns of the layer's input, or names of the model's input columns. By
        default all. A model replaces names by numbers when it is made.
    clip : bool
        Whether the first and the last number of a column are limited on both sides as well: values outside the edges
        then count as the nearest edge.
    features : int
        Number of inputs; 0: learned in `fit` (unless columns are named), or that of the layer before.
    feature_names : sequence of str, optional
        Names of the model's input columns; `fit` takes them from a frame, and a model takes them from the layer.
    name : str, optional
        Prefix of the names of its buffers ("bins.start"), an identifier. By default its number ("layers.0.start").
    """

    __slots__ = ("_feature_names", "_sealed")
    _fields = ("edges", "columns", "clip", "features", "feature_names", "name")

    def __init__(
        self,
        edges: Sequence[Sequence[float]] | None = None,
        *,
        columns: Sequence[int] | Sequence[str] | None = None,
        clip: bool = False,
        features: int = 0,
        feature_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        self._sealed = False
        super().__init__(edges, columns=columns, clip=clip, features=features, name=name)
        self._feature_names = None if feature_names is None else names_of(feature_names, None)

    @property
    def feature_names(self) -> FeatureNames | None:
        """Column names of the fitted data, if any."""
        return self._feature_names

    def seal(self) -> None:
        """Refuse further calls of `fit`: the layer describes a model, which has its own copy of the edges."""
        self._sealed = True

    def fit(
        self, x: Data, y: Data | None = None, *, bins: int = 16, min_rows: int = 16, dtype: str = "float32"
    ) -> Self:
        """Learn the edges of every chosen column: quantiles of `x`, or the splits of a tree that predicts `y`.

        Parameters
        ----------
        x : array
            Training data of shape (rows, features): the layer's input, or, with columns by name, a frame that has them.
        y : array, optional
            Targets (rows,) or (rows, outputs). Text, Booleans, and whole numbers of at most 64 values are classes;
            others are numbers. With targets, the edges are those of a decision tree on the column alone, which splits
            best first by squared error (of classes: Gini impurity).
        bins : int
            Most bins of a column. Equal edges are merged, so a column of few values has fewer.
        min_rows : int
            With `y`: fewest rows of a bin.
        dtype : {"float32", "float64"}
            The model's dtype: edges are rounded to it and differ in it.

        Returns
        -------
        PiecewiseLinear
            Itself. A constant column has one bin, which begins at its value v and is max(1, |v|) wide.

        Raises
        ------
        TypeError
            If `x` does not contain numbers only, or an argument is of another type.
        ValueError
            If a shape or value does not fit, or a column contains NaN, infinity or values that `dtype` cannot hold or
            tell apart.
        RuntimeError
            If it is a layer of a model, whose edges are fixed. A copy can be fitted, for another model.
        """
        if self._sealed:
            raise RuntimeError(
                "fit: got a layer of a model, whose edges it would not change; expected fit before the model is made: "
                "Sequential(copy.copy(layer).fit(x), ...)"
            )
        bins = integer(bins, "bins", minimum=1)
        min_rows = integer(min_rows, "min_rows", minimum=1)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: got {shown(dtype)}; expected 'float32' or 'float64'")
        inputs = to_inputs(x, "x", self._feature_names)
        array = inputs.array
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"x: got shape {array.shape}; expected (rows, features), at least one of each")
        numbers = self._numbers(inputs)
        target = None if y is None else split_target(y, len(array))
        edges = []
        for number in numbers:
            values = np.ascontiguousarray(array[:, number])
            check_numbers(values, dtype, f"x, column {number}")
            values = values.astype(np.float64)
            low, high = values.min(), values.max()
            if low < high and low.astype(dtype) == high.astype(dtype):
                raise ValueError(
                    f"x, column {number}: got numbers from {low:.17g} to {high:.17g}, which {dtype} does not tell "
                    'apart; expected scaled data, or dtype="float64" here and in the model'
                )
            found = quantile_edges(values, bins) if target is None else tree_edges(values, target, bins, min_rows)
            edges.append(distinct_edges(found, dtype).tolist())
        named = self._is_named()
        super()._set(0 if named else array.shape[1], edges)
        self._feature_names = inputs.names
        return self

    def _is_named(self) -> bool:
        columns = self.columns
        return columns is not None and isinstance(columns[0], str)

    def _numbers(self, inputs: Inputs) -> Sequence[int]:
        """Return the numbers of the chosen columns in the data of `fit`."""
        count, columns = inputs.array.shape[1], self.columns
        if columns is None:
            chosen: Sequence[Any] = range(count)
        elif not self._is_named():
            chosen = columns
        elif inputs.names is None:
            raise ValueError(f"x: got data without column names; expected a frame with the columns {shown(columns)}")
        else:
            unknown = [name for name in columns if name not in inputs.names]
            if unknown:
                raise ValueError(f"x: got no column {shown(unknown[0])}; it has {shown(list(inputs.names), 200)}")
            chosen = [inputs.names.index(name) for name in columns]
        wrong = [number for number in chosen if number >= count]
        if wrong or (self.features not in (0, count) and not self._is_named()):
            expected = f"{self.features}" if not wrong else f"more than {wrong[0]}, the number of a chosen column"
            raise ValueError(f"x: got {count} columns; expected {expected}")
        return chosen
