"""The results of `restarts` and `sweep`: every start, the best model, tables and figures."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..history import History
from ..internal.attributes import Hinted
from ..internal.display import Shown
from ..model import Sequential
from ..table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Compared", "Restarts", "Spread", "Start", "Sweep"]


@dataclass(frozen=True)
class Start:
    """One start and its result.

    Attributes
    ----------
    seed : int
        The seed passed to `build`.
    settings : dict
        The settings of this start by name: those of `sweep`; for `restarts` with `epsilon`, the scale of the initial
        weights.
    value : float
        The validation measure that starts are compared by, of the model after training. If it is nan or
        infinite, as for a start that diverged, it is the worst value: infinite.
    loss, val_loss : float
        Loss of that model on training and validation data, as in prediction; infinite for one that diverged.
    best_epoch, epochs : int
        The epoch (from 1) that `EarlyStopping` chose, whose weights the model has if it restores them; without it the
        epoch with the best measure. And epochs trained.
    seconds : float
        Time it took.
    history : History
        Its epochs.
    val_metrics : dict
        Metrics of that model on validation data, by name; empty for one that diverged.
    note : str
        Why it is not compared: it diverged, or the measure is not finite; empty for the others.
    model : Sequential or None
        The trained model, where models are kept.
    """

    seed: int
    settings: Mapping[str, Any]
    value: float
    loss: float
    val_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    history: History
    val_metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    model: Sequential | None = None

    @property
    def epsilon(self) -> float | None:
        """The scale of the initial weights passed to `build`, if any."""
        return self.settings.get("epsilon")

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
class Compared(Hinted, Shown):
    """Starts that are compared by a measure on validation data; ``print(result)`` shows them.

    Attributes
    ----------
    best : Sequential
        The best model.
    best_start : Start
        Its start.
    starts : tuple of Start
        All of them: by settings in the order given, then by seed.
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
        metrics = dict.fromkeys(f"val_{name}" for start in self.starts for name in start.val_metrics)
        names = dict.fromkeys(["best_epoch", "epochs", self.monitor, "val_loss", *metrics, "loss", "seconds", "note"])
        rows = []
        for start in self.starts:
            values = dict.fromkeys(names) | vars(start) | {f"val_{k}": v for k, v in start.val_metrics.items()}
            values |= {self.monitor: start.value, "note": start.note.partition(";")[0]}
            first = {"seed": start.seed, **shown_settings(start)}
            rows.append(first | {name: values[name] for name in names if values[name] not in (None, "")})
        return Table(rows)

    def _chosen_by(self) -> str:
        """Return the column by which the best start's epoch was chosen; "" if it is the best of the one compared."""
        history = self.best_start.history
        chosen = history._chosen
        if chosen is None or (chosen.monitor == self.monitor and chosen.epoch == history.best_epoch(*chosen[:2])):
            return ""
        return chosen.monitor


@dataclass(frozen=True)
class Restarts(Compared):
    """The result of `restarts`: the best start, the first of equals, and all others; ``print(result)`` shows them.

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

    @property
    def best_epsilon(self) -> float | None:
        """The ε of the best start; None if not used."""
        return self.best_start.epsilon

    def _parts(self) -> tuple[Table | str, ...]:
        """Return the table of all starts, the spread, and the best start."""
        spread = ", ".join(f"{name} {value:.4g}" for name, value in self.spread._asdict().items())
        epsilon = "" if self.best_epsilon is None else f", epsilon {self.best_epsilon:g}"
        by = f"; best_epoch by {self._chosen_by()}" if self._chosen_by() else ""
        return self.table(), f"{self.monitor}: {spread}; best: seed {self.best_seed}{epsilon}{by}"

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


@dataclass(frozen=True)
class Sweep(Compared):
    """The result of `sweep`: each setting by the mean of its seeds; ``print(result)`` shows the settings.

    Attributes
    ----------
    best : Sequential
        The best model of the best setting.
    best_start : Start
        Its start.
    starts : tuple of Start
        All of them: by settings in the order given, then by seed.
    monitor : str
        The measure that settings are compared by, such as "val_loss".
    mode : str
        Its direction: "min" or "max".
    """

    @property
    def best_setting(self) -> dict[str, Any]:
        """The settings with the best mean over their seeds; those with a start that is not compared come last."""
        return dict(self.best_start.settings)

    def summary(self) -> Table:
        """Return a row for each of the settings, over its seeds: mean, standard error, and best of the measure.

        "seeds" counts the starts that are compared, "left_out" those that diverged or whose measure is not finite. The
        standard error is the standard deviation (with n - 1) over √n; one seed has none.
        """
        return Table(_summarised(list(starts), self.monitor, self.mode) for starts in by_settings(self.starts))

    def _parts(self) -> tuple[Table | str, ...]:
        """Return the summary and the best settings."""
        best = ", ".join(f"{name} {value}" for name, value in shown_settings(self.best_start).items())
        return self.summary(), f"best: {best}; its best start: seed {self.best_seed}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Axes:
        """Draw the measure of all starts against the first setting, with the mean and its standard error.

        Each combination of the other settings is a line.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; without a path, it belongs to matplotlib.pyplot.

        Returns
        -------
        matplotlib Axes
            The axes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting.sweep import draw_sweep

        return draw_sweep(self, path)


def by_settings(starts: Iterable[Start]) -> list[tuple[Start, ...]]:
    """Return the starts of each of the settings, which those have in common as one object."""
    return [tuple(group) for _, group in itertools.groupby(starts, lambda start: id(start.settings))]


def ranked(starts: Sequence[Start], mode: str) -> tuple[int, float]:
    """Return the place of settings with these starts: by starts left out, then by the mean, less is better."""
    values = [start.value for start in starts if not start.note]
    mean = float(np.mean(values)) if values else math.inf
    return len(starts) - len(values), mean if mode == "min" or not values else -mean


def _summarised(starts: list[Start], monitor: str, mode: str) -> dict[str, Any]:
    values = [start.value for start in starts if not start.note]
    row: dict[str, Any] = {**shown_settings(starts[0]), "seeds": len(values)}
    if values:
        row[monitor] = float(np.mean(values))
    if len(values) > 1:
        row["standard_error"] = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    if values:
        row["best"] = min(values) if mode == "min" else max(values)
    return row | {"left_out": len(starts) - len(values)}


def shown_settings(start: Start) -> dict[str, Any]:
    """Return the settings of a start as numbers and text."""
    plain = (bool, int, float, str, np.generic)
    return {
        name: value if isinstance(value, plain) else getattr(value, "__name__", repr(value))
        for name, value in start.settings.items()
    }
