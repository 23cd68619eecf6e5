"""Measurements of a training run, by epoch and by step: dictionaries of columns, with table, CSV file and plot."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np

from .internal.arguments import explained
from .internal.checks import shown
from .metrics import direction
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Chosen", "History", "StepHistory"]

Row: TypeAlias = dict[str, float]
WHOLE = ("epoch", "step")  # columns of whole numbers


class Chosen(NamedTuple):
    """The epoch that `EarlyStopping` chose, and by what."""

    monitor: str
    mode: str
    epoch: int


@explained
class _Measurements(Table):
    """Rows of numbers in the order of training, each with its number in the column ``_index``."""

    __slots__ = ("_chosen",)
    _missing = math.nan
    _index: ClassVar[str]  # "epoch" or "step"
    _chosen: Chosen | None  # in the last fit, if an EarlyStopping did

    def __init__(self, rows: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Any]] = ()) -> None:
        super().__init__(rows)
        self._chosen = None

    def __repr__(self) -> str:
        """Return the number of rows, and the last values."""
        last = ", ".join(f"{name}={value:.6g}" for name, value in self.last.items()) or "nothing yet"
        return f"{type(self).__name__}({self.height} {self._rows()}; last: {last})"

    def _rows(self) -> str:
        return f"{self._index}s"

    __str__ = __repr__  # one line for any number of rows

    @property
    def last(self) -> Row:
        """The last row as a dictionary (a copy), empty before the first."""
        return self.row(-1) if self.height else {}

    def _last_index(self) -> int:
        """Return the number of the last row, 0 before the first."""
        column = dict.get(self, self._index)
        return int(column[-1]) if column else 0

    def complete(self, values: Mapping[str, Any]) -> None:
        """Add values to the last row.

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

    def begins_with(self, other: Self) -> bool:
        """Return whether the first rows are those of another history."""
        columns = dict.items(other)
        return all(dict.get(self, name, [])[: other.height] == column for name, column in columns)

    def replace(self, other: Self) -> None:
        """Replace all rows by those of another history."""
        self._take(other)
        self._chosen = other._chosen

    def _append(self, row: Mapping[str, Any], what: str) -> None:
        if type(row) is dict or isinstance(row, Mapping):
            if self._index not in row:
                raise ValueError(f"{what}: got {shown(row)}; expected the number of the {self._index} among its values")
            row = {
                # Most values are floats, which need no call.
                name: value if type(value) is float and value == value and name not in WHOLE else number(value, name)
                for name, value in row.items()
            }
        super()._append(row, what)

    def _take(self, columns: Mapping[str, Iterable[Any]]) -> None:
        numbers = {name: [number(value, name) for value in values] for name, values in Table(columns).items()}
        if numbers and self._index not in numbers:
            names = shown(list(numbers))
            raise ValueError(f"rows: got the columns {names}; expected the column {self._index!r} among them")
        super()._take(numbers)

    def _best(self, monitor: str, mode: str | None) -> int:
        """Return the number of the row with the best value, the first of equals; see `History.best_epoch`."""
        sign = 1.0 if direction(monitor, mode) == "min" else -1.0
        numbers = [(sign * value, i) for i, value in enumerate(self[monitor]) if math.isfinite(value)]
        if not numbers:
            raise ValueError(f"monitor: the column {shown(monitor)} contains no finite value")
        return int(self[self._index][min(numbers)[1]])

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        measure: str = "loss",
        log: bool = False,
        mode: str | None = None,
    ) -> Axes:
        """Draw the learning curve: `measure` on training and validation data, with its best value marked.

        If an `EarlyStopping` of the last `fit` chose another epoch, that is marked, with the column that it went by.

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


@explained
class History(_Measurements):
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
    _index = "epoch"

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return self.height

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch, 0 before the first."""
        return self._last_index()

    @property
    def monitor(self) -> str:
        """Column that `best_epoch` goes by: that of the `EarlyStopping` of the last `fit`, "val_loss" without one."""
        return "val_loss" if self._chosen is None else self._chosen.monitor

    def best_epoch(self, monitor: str | None = None, mode: str | None = None) -> int:
        """Return the number of the best epoch.

        Parameters
        ----------
        monitor : str, optional
            A column: the epoch with its best value, the first of equals. By default the epoch that the `EarlyStopping`
            of the last `fit` chose; without one, that of the least "val_loss". Of several callbacks, the last one
            that restores weights counts. Files do not contain its choice.
        mode : {"min", "max"}, optional
            Which direction of `monitor` is better; known for the loss and metrics by name.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If the column holds no finite value, `mode` is needed and missing, or it is given without `monitor`.
        """
        if monitor is None and mode is not None:
            raise ValueError(f"monitor: is missing beside mode={shown(mode)}; expected the column that it is meant for")
        if monitor is None and self._chosen is not None:
            return self._chosen.epoch
        if monitor is None and self.height and self.monitor not in self:
            raise KeyError(
                "monitor: is needed, as there was no validation data, hence no column 'val_loss'; expected one of "
                f"{', '.join(self)}, or fit(..., validation=...)"
            )
        return self._best(self.monitor if monitor is None else monitor, mode)


@explained
class StepHistory(_Measurements):
    """Training by steps, one row for every ``log_every`` steps of ``fit(log_every=...)``: ``trainer.step_history``.

    A `Table` with the columns ``step`` (steps done), ``loss`` (mean of the batch losses since the row before), ``lr``
    (the rate of the last step) and ``seconds`` (training time since the row before).

    Parameters
    ----------
    rows : iterable of dict, or mapping of columns
        The rows, as for `Table`; each has a value ``step``.

    Raises
    ------
    TypeError
        If a value is no number.
    """

    __slots__ = ()
    _index = "step"

    def _rows(self) -> str:
        return "rows"

    @property
    def last_step(self) -> int:
        """Number of the last step with a row, 0 before the first."""
        return self._last_index()

    def best_step(self, monitor: str = "loss", mode: str | None = None) -> int:
        """Return the step of the row with the best value of `monitor`; see `History.best_epoch`."""
        return self._best(monitor, mode)


def number(value: Any, name: str) -> float:
    """Return a measured value as a float: a number from Python, NumPy or another library, or a one-element array.

    The number of an epoch or a step stays an int.

    Raises
    ------
    TypeError
        If it is no number.
    """
    if type(value) is int and name in WHOLE and 0 <= value < 2**53:
        return value
    if type(value) is float and name not in WHOLE:
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
    if name in WHOLE and converted.is_integer():
        return int(converted)
    return number(converted, "")
