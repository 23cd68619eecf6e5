"""Permutation importances: how much worse a model predicts when the values of a column are exchanged between rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..internal.display import Shown
from ..internal.features import FeatureNames
from ..table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Importances", "measure"]


@dataclass(frozen=True, eq=False)
class Importances(Shown):
    """How much worse a measure becomes when a column is permuted (Breiman 2001); ``print(result)`` shows all columns.

    Attributes
    ----------
    names : tuple of str
        The columns.
    metric : str
        Name of the measure.
    baseline : float
        Its value without permutation.
    values : ndarray of float64
        Shape (columns, repeats): by how much each permutation makes the measure worse; below 0 where it gets better.
    """

    names: FeatureNames
    metric: str
    baseline: float
    values: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean over the repeats, (columns,)."""
        found: npt.NDArray[np.float64] = self.values.mean(axis=1)
        return found

    @property
    def std(self) -> npt.NDArray[np.float64]:
        """Standard deviation over the repeats, (columns,)."""
        found: npt.NDArray[np.float64] = self.values.std(axis=1)
        return found

    def table(self) -> Table:
        """Return a row for each column, the most important first: its name, mean and standard deviation."""
        order = np.argsort(-self.mean, kind="stable").tolist()
        mean, std = self.mean.tolist(), self.std.tolist()
        return Table({"column": self.names[i], "importance": mean[i], "std": std[i]} for i in order)

    def _parts(self) -> tuple[Table, str]:
        """Return the table, and the measure without permutation."""
        return self.table(), f"importance: how much worse {self.metric} becomes, which is {self.baseline:.4g}"

    def plot(self, path: str | os.PathLike[str] | None = None, *, most: int = 20) -> Axes:
        """Draw the most important columns as bars, with the standard deviation over the repeats.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; without a path, it belongs to matplotlib.pyplot.
        most : int
            Columns that are shown at most.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..internal.checks import integer
        from ..plotting.importances import draw

        axes: Axes = draw(self, path, integer(most, "most", minimum=1))
        return axes


def measure(
    score: Callable[[Array], float],
    inputs: Array,
    spans: list[tuple[int, int]],
    *,
    sign: float,
    repeats: int,
    seed: int,
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return a measure of encoded rows, and by how much it becomes worse with each column permuted.

    Parameters
    ----------
    score : function
        Returns the measure of inputs (rows, width).
    inputs : ndarray
        The encoded rows; changed meanwhile.
    spans : list of (int, int)
        The inputs of each column.
    sign : float
        1 if more of the measure is better, otherwise -1.
    repeats, seed : int
        Permutations of each column, and their seed.
    """
    random, baseline = np.random.default_rng(seed), score(inputs)
    orders = [random.permutation(len(inputs)) for _ in range(repeats)]  # the same for all columns
    values = np.zeros((len(spans), repeats))
    for i, (first, last) in enumerate(spans):
        if first == last:
            continue
        kept = inputs[:, first:last].copy()
        for j, order in enumerate(orders):
            inputs[:, first:last] = kept[order]
            values[i, j] = sign * (baseline - score(inputs))
        inputs[:, first:last] = kept
    return baseline, values
