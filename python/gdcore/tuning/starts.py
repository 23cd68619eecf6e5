"""The result of `restarts`: every start, the best model, a table and a figure."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..history import History
from ..model import Sequential
from ..table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Restarts", "Spread", "Start"]


@dataclass(frozen=True)
class Start:
    """One start and its result.

    Attributes
    ----------
    seed : int
        The seed passed to `build`.
    epsilon : float or None
        The scale of the initial weights passed to `build`, if any.
    value : float
        The validation measure that starts are compared by, of the model after training. If it is nan or
        infinite, as for a start that diverged, it is the worst value: infinite.
    loss, val_loss : float
        Loss of that model on training and validation data, as in prediction; infinite for one that diverged.
    best_epoch, epochs : int
        Epoch (from 1) with the best measure, and epochs trained; with `EarlyStopping` the weights are the best epoch's.
    seconds : float
        Time it took.
    history : History
        Its epochs.
    note : str
        Why it is not compared: it diverged, or the measure is not finite; empty for the others.
    model : Sequential or None
        The trained model, where models are kept.
    """

    seed: int
    epsilon: float | None
    value: float
    loss: float
    val_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    history: History
    note: str = ""
    model: Sequential | None = None

    @property
    def diverged(self) -> bool:
        """Whether its loss is not finite; otherwise at most the measure is not."""
        return bool(self.note) and not math.isfinite(self.val_loss)


class Spread(NamedTuple):
    """Spread of the finite measures, in the measure's unit; `std` divides by their number."""

    min: float
    median: float
    max: float
    std: float


@dataclass(frozen=True)
class Restarts:
    """The result of `restarts`; ``print(result)`` shows it.

    Attributes
    ----------
    best : Sequential
        The model of the start with the best validation measure, the first of equals.
    best_start : Start
        That start.
    starts : tuple of Start
        All of them: by ε in the order given, then by seed.
    monitor : str
        The measure that starts are compared by, such as "val_loss".
    mode : str
        Its direction: "min" or "max".
    """

    best: Sequential
    best_start: Start
    starts: tuple[Start, ...]
    monitor: str
    mode: str

    @property
    def best_seed(self) -> int:
        """The seed of the best start."""
        return self.best_start.seed

    @property
    def best_epsilon(self) -> float | None:
        """The ε of the best start; None if not used."""
        return self.best_start.epsilon

    @property
    def models(self) -> list[Sequential | None]:
        """The models of all starts if ``keep_models=True``; None otherwise, and for starts that are not compared."""
        return [start.model for start in self.starts]

    @property
    def spread(self) -> Spread:
        """Least, median, greatest value and standard deviation of the measure, over starts where it is finite."""
        values = [start.value for start in self.starts if math.isfinite(start.value)]
        return Spread(min(values), float(np.median(values)), max(values), float(np.std(values)))

    def table(self) -> Table:
        """Return a row for each start: the values of `Start`, with the start of its note, without history and model."""
        names = ["seed", "epsilon", "best_epoch", "epochs", self.monitor, "val_loss", "loss", "seconds", "note"]
        rows = []
        for start in self.starts:
            values = vars(start) | {self.monitor: start.value, "note": start.note.partition(";")[0]}
            rows.append({name: values[name] for name in names if values[name] not in (None, "")})
        return Table(rows)

    def __str__(self) -> str:
        """Return the table of all starts, the spread, and the best start."""
        spread = ", ".join(f"{name} {value:.4g}" for name, value in self.spread._asdict().items())
        epsilon = "" if self.best_epsilon is None else f", epsilon {self.best_epsilon:g}"
        return f"{self.table()}\n{self.monitor}: {spread}; best: seed {self.best_seed}{epsilon}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> list[Axes]:
        """Draw the measures of all starts, sorted (for each ε), and the learning curves.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; without a path, it belongs to matplotlib.pyplot.

        Returns
        -------
        list of matplotlib Axes
            Measures, learning curves.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.restarts import draw

        return draw(self, path)
