"""Measurements of a training run by epoch: a dictionary of columns, with table, CSV file and plot."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .internal.arguments import explained
from .internal.checks import shown
from .metrics import direction
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["History"]

Row: TypeAlias = dict[str, float]


@explained
class History(Table):
    """The columns of a training run, one value per epoch: ``history["val_loss"]`` is a list.

    A `Table` whose rows are epochs. Columns are ``epoch`` (from 1), ``loss`` (mean of the batch losses during
    training), ``lr`` (the rate at the end of the epoch), ``seconds`` (time of the epoch, validation included),
    ``val_loss`` and ``val_<metric>`` if there is validation data, and values that a callback added to its logs. All
    values except ``epoch`` are floats. An epoch without a value for a column holds nan there, for example when a later
    ``fit`` added the column.

    Parameters
    ----------
    rows : iterable of dict, or mapping of columns
        The epochs, as for `Table`; each has a value ``epoch``.

    Raises
    ------
    TypeError
        If a value is no number.
    """

    __slots__ = ()
    _missing = math.nan

    def __repr__(self) -> str:
        """Return the number of epochs, the columns and the last values."""
        last = ", ".join(f"{name}={value:.6g}" for name, value in self.last.items()) or "nothing yet"
        return f"History({self.epochs} epochs; last: {last})"

    __str__ = __repr__  # one line for any number of epochs

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return self.height

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch, 0 before the first."""
        column = dict.get(self, "epoch")
        return int(column[-1]) if column else 0

    @property
    def last(self) -> Row:
        """The last epoch as a dictionary (a copy), empty before the first."""
        return self.row(-1) if self.epochs else {}

    def complete(self, values: Mapping[str, Any]) -> None:
        """Add values to the last epoch.

        Raises
        ------
        TypeError
            If a value is no number; nothing is added then.
        """
        for name in values:
            if not isinstance(name, str):
                raise TypeError(f"got a column called {shown(name)}; expected text")
        numbers = {name: number(value, name) for name, value in values.items()}
        self._add_columns(numbers)
        for name, value in numbers.items():
            dict.__getitem__(self, name)[-1] = value

    def replace(self, other: History) -> None:
        """Replace all epochs by those of another history."""
        self._take(other)

    def _append(self, row: Mapping[str, Any], what: str) -> None:
        if type(row) is dict or isinstance(row, Mapping):
            if "epoch" not in row:
                raise ValueError(f"{what}: got {shown(row)}; expected the number of the epoch among its values")
            row = {name: number(value, str(name)) for name, value in row.items()}
        super()._append(row, what)

    def _take(self, columns: Mapping[str, Iterable[Any]]) -> None:
        numbers = {name: [number(value, name) for value in values] for name, values in Table(columns).items()}
        if numbers and "epoch" not in numbers:
            raise ValueError(f"rows: got the columns {shown(list(numbers))}; expected the column 'epoch' among them")
        super()._take(numbers)

    def best_epoch(self, monitor: str = "val_loss", mode: str | None = None) -> int:
        """Return the number of the epoch with the best value of `monitor`, the first of equals.

        Parameters
        ----------
        monitor : str
            A column.
        mode : {"min", "max"}, optional
            Which direction is better; known for the loss and metrics by name.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If the column holds no finite value, or `mode` is needed and missing.
        """
        sign = 1.0 if direction(monitor, mode) == "min" else -1.0
        numbers = [(sign * value, i) for i, value in enumerate(self[monitor]) if math.isfinite(value)]
        if not numbers:
            raise ValueError(f"monitor: the column {monitor!r} holds no finite value")
        return int(self["epoch"][min(numbers)[1]])

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        measure: str = "loss",
        log: bool = False,
        mode: str | None = None,
    ) -> Axes:
        """Draw the learning curve: `measure` on training and validation data against the epoch, the best epoch marked.

        Parameters
        ----------
        path : path, optional
            Where to save the figure (the extension gives the format: .png, .svg, .pdf). Without it the figure belongs
            to matplotlib.pyplot; a notebook or ``plt.show()`` shows it.
        measure : str
            "loss" or a metric's name, without "val_".
        log : bool
            Logarithmic vertical axis.
        mode : {"min", "max"}, optional
            Which direction is better; known for the loss and metrics by name.

        Returns
        -------
        matplotlib Axes
            The axes, to add to or to save with ``axes.figure.savefig``.

        Raises
        ------
        KeyError
            If neither `measure` nor ``val_<measure>`` is a column.
        ImportError
            If matplotlib is not installed.
        """
        from .plotting.learning_curve import learning_curve

        return learning_curve(self, path, measure, log, direction(measure, mode))


def number(value: Any, name: str) -> float:
    """Return a measured value as a float: a number from Python, NumPy or another library, or a one-element array.

    The number of an epoch stays an int.

    Raises
    ------
    TypeError
        If it is no number.
    """
    if type(value) is int and name == "epoch" and 0 <= value < 2**53:
        return value
    if type(value) is float and name != "epoch":
        return value if value == value else math.nan  # one nan, so that equal histories compare equal
    try:
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):  # item() would return the masked value
            raise TypeError
        # item() of an array or a tensor refuses more than one element, and makes complex ones recognisable.
        item = value.item() if callable(getattr(value, "item", None)) else value
        if isinstance(item, (str, bytes)):
            raise TypeError
        converted = float(item)
    except OverflowError:
        converted = math.inf if item > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: got {type(value).__name__} {shown(value)}; expected a number") from None
    if name == "epoch" and converted.is_integer():
        return int(converted)
    return number(converted, "")
