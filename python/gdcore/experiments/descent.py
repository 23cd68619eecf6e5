"""`DoubleDescent`: the result of a sweep over one setting: a table, a sentence and a figure."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..internal.display import Shown
from ..table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DoubleDescent"]

Curve = npt.NDArray[np.float64]

BUMP = 0.02  # the least rise or fall of the test error that counts, relative to the larger error
SIZE = (7.6, 4.4)  # of the figure, inches
AXES = {
    "width": "units in each hidden layer",
    "parameters": "parameters of the network",
    "epoch": "epochs of training",
    "samples": "training rows",
    "weight_decay": "weight decay λ, from strong to weak",
}
NOUNS = {"width": "unit", "parameters": "parameter", "epoch": "epoch", "samples": "row"}


@dataclass(frozen=True)
class DoubleDescent(Shown):
    """Training and test error against the size of a network, the epochs, the weight decay, or the number of rows.

    Attributes
    ----------
    axis : str
        The varied quantity, and the name of its column: "parameters", "width", "epoch", "weight_decay" or "samples".
        A sweep over the width is by "parameters"; ``dataclasses.replace(result, axis="width")`` is the same by width.
    train, test : str
        The columns of the training and the test error.
    measure : str
        The quantity that they measure, for the figure.
    table : Table
        A row for each run (and measured epoch): the column `axis`, ``seed``, the errors and more.
    interpolated : float
        A training error up to this counts as zero: the training data is fitted exactly.
    cpu_seconds : float
        Processor time of all training and measuring, in seconds.
    """

    axis: str
    train: str
    test: str
    measure: str
    table: Table
    interpolated: float
    cpu_seconds: float

    def curve(self) -> Table:
        """Return the means over the seeds: `axis`, `train`, `test`, ``test_se`` and ``runs``.

        ``test_se`` is the standard error of the mean test error; it is missing if there is one run. By "parameters",
        ``width`` is there too. Values ascend, but those of the weight decay descend, from strong to weak.
        """
        rows = []
        for value in sorted(set(self.table[self.axis]), reverse=self.axis == "weight_decay"):
            some = [row for row in self.table.rows if row[self.axis] == value]
            test = np.array([row[self.test] for row in some])
            row = {self.axis: value, self.train: float(np.mean([r[self.train] for r in some]))}
            row |= {"width": some[0]["width"]} if self.axis == "parameters" else {}
            row |= {self.test: float(test.mean()), "runs": len(some)}
            if len(some) > 1:
                row["test_se"] = float(test.std(ddof=1) / math.sqrt(len(some)))
            rows.append(row)
        return Table(rows)

    @property
    def threshold(self) -> float | None:
        """The interpolation threshold: where the mean training error reaches zero (see `interpolated`).

        The smallest number of parameters, width or number of epochs at which it is zero, or the largest weight decay or
        number of rows; None if there is none. A whole number except for the weight decay.
        """
        curve = self.curve()
        fitted = [v for v, e in zip(curve[self.axis], curve[self.train], strict=True) if e <= self.interpolated]
        if not fitted:
            return None
        end: float = max(fitted) if self.fitted_below else min(fitted)
        return end

    @property
    def fitted_below(self) -> bool:
        """Whether the training data is fitted at small values of the axis, not at large ones."""
        return self.axis in ("samples", "weight_decay")

    @property
    def peak(self) -> float | None:
        """Where the mean test error has its peak between two descents, None if it has none.

        The point that rises farthest above the lowest points on both sides of it; before the first of these, the test
        error must have fallen. Each fall and the rise must be at least 2 % of the larger error, and with several seeds
        twice the standard error of the difference, seed by seed. A whole number except for the weight decay.
        """
        curve = self.curve()
        found = self._turns(curve)
        if found is None:
            return None
        at: float = curve[self.axis][found[1]]
        return at

    def _turns(self, curve: Table) -> tuple[int, int, int] | None:
        """Return the rows of the first low, the peak, and the second low; None without two descents."""
        values, test = curve[self.axis], np.array(curve[self.test])
        turns = _double_descent(test) if np.isfinite(test).all() else None
        if turns is None:
            return None
        start, before, at, after = turns
        for low, high in ((before, start), (before, at), (after, at)):
            rise = self._rise(values[low], values[high])
            if len(rise) > 1 and test[high] - test[low] <= 2 * rise.std(ddof=1) / math.sqrt(len(rise)):
                return None
        return before, at, after

    def _rise(self, low: float, high: float) -> Curve:
        """Return how much larger the test error is at `high` than at `low`, seed by seed."""
        at = {
            value: {r["seed"]: r[self.test] for r in self.table.rows if r[self.axis] == value} for value in (low, high)
        }
        return np.array([at[high][seed] - error for seed, error in at[low].items() if seed in at[high]])

    def _parts(self) -> tuple[Table | str, ...]:
        """Return one sentence about the result, and the curve."""
        return self.sentence(), self.curve()

    def sentence(self) -> str:
        """Return one sentence about the result."""
        curve = self.curve()
        values, test = curve[self.axis], np.array(curve[self.test])
        if not np.isfinite(test).all():
            return f"The {self.measure} is not finite everywhere"
        turns = self._turns(curve)
        if turns is None:
            i = int(test.argmin())
            return f"No second descent: test error is lowest, {test[i]:.3g}, at {self.described(values[i])}"
        points = [f"{test[i]:.3g} at {self.described(values[i], i == turns[-1])}" for i in turns]
        return f"Test error falls to {points[0]}, peaks at {points[1]}, falls again to {points[2]}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Draw test and training error against the varied quantity, with the interpolation threshold.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; the ending gives the format. Without a path, it belongs to matplotlib.pyplot.

        Returns
        -------
        matplotlib Axes
            For additions, or to save by ``axes.figure.savefig``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting import figures

        axes: Axes = figures.new_axes(path is not None, "DoubleDescent.plot", size=SIZE)
        self.draw(axes)
        figures.save(axes, path)
        return axes

    def draw(self, axes: Axes) -> None:
        """Draw the same as `plot` into existing axes, such as those of a larger figure.

        Parameters
        ----------
        axes : matplotlib Axes
            Gets lines, labels, a title and a legend; the caller saves the figure.
        """
        from ..plotting.double_descent import draw

        draw(self, axes, AXES[self.axis])

    def described(self, value: float, named: bool = True) -> str:
        """Return a value of the axis as text, such as "1,000 parameters"; without the name where not `named`."""
        if self.axis == "weight_decay":
            return f"λ = {value:g}" if named else f"{value:g}"
        noun = NOUNS[self.axis] + ("" if value == 1 else "s")
        return f"{value:,} {noun}" if named else f"{value:,}"


def _double_descent(test: Curve) -> tuple[int, int, int, int] | None:
    """Return the indices of the first fall, the low, the peak and the low after it, for the peak that rises farthest.

    None if no peak has a fall of `BUMP` on both sides, the first after a fall of the same size.
    """
    found = []
    for at in range(2, len(test) - 1):
        before, after = int(test[:at].argmin()), at + 1 + int(test[at + 1 :].argmin())
        start = int(test[: before + 1].argmax())
        pairs = ((start, before), (at, before), (at, after))
        if all(test[high] - test[low] > BUMP * test[high] for high, low in pairs):
            found.append((min(test[at] - test[before], test[at] - test[after]), -at, (start, before, at, after)))
    return max(found)[-1] if found else None
