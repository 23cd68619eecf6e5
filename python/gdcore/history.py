"""What a training run has measured, epoch by epoch: a dictionary of columns, a table, a CSV file, a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ._checks import optional_module
from .metrics import direction

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = ["History"]

Row: TypeAlias = dict[str, float]


class History(Mapping[str, list[float]]):
    """The columns of a training run, one value an epoch: ``history["val_loss"]`` is a list.

    Columns are ``epoch`` (from 1), ``loss`` (mean over the training batches while they were trained), ``lr`` (the rate
    at the end of the epoch), ``seconds`` (time of the epoch, validation included), ``val_loss`` and ``val_<metric>``
    where there is validation data, and whatever a callback added to its logs. An epoch that has no value for a column,
    because it came with a later ``fit``, holds nan there.
    """

    def __init__(self, rows: list[Row] | None = None) -> None:
        self._rows: list[Row] = [] if rows is None else [dict(row) for row in rows]

    def __getitem__(self, column: str) -> list[float]:
        """Return a column as a list, one value an epoch."""
        if column not in self:
            raise KeyError(f"{column!r}: the columns are {', '.join(self) or 'none yet'}")
        return [row.get(column, math.nan) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return iter(dict.fromkeys(name for row in self._rows for name in row))

    def __contains__(self, column: object) -> bool:
        """Tell whether there is such a column."""
        return any(column in row for row in self._rows)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(list(iter(self)))

    def __repr__(self) -> str:
        """Return the number of epochs, the columns and the last values."""
        last = (
            ", ".join(f"{name}={value:.6g}" for name, value in self._rows[-1].items()) if self._rows else "nothing yet"
        )
        return f"History({self.epochs} epochs; last: {last})"

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self._rows)

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch, 0 before the first."""
        return int(self._rows[-1]["epoch"]) if self._rows else 0

    @property
    def rows(self) -> list[Row]:
        """The epochs as a list of dictionaries (copies)."""
        return [dict(row) for row in self._rows]

    @property
    def last(self) -> Row:
        """The last epoch as a dictionary (a copy), empty before the first."""
        return dict(self._rows[-1]) if self._rows else {}

    def append(self, row: Row) -> None:
        """Add an epoch."""
        self._rows.append(row)  # one step, so that a Ctrl-C finds the epoch whole or not there

    def replace(self, other: History) -> None:
        """Take over the epochs of another history."""
        self._rows = other.rows

    def best_epoch(self, monitor: str = "val_loss", mode: str | None = None) -> int:
        """Return the number of the epoch in which `monitor` was best, the first of equals.

        Parameters
        ----------
        monitor : str
            A column.
        mode : {"min", "max"}, optional
            Which way is better; known for gdcore's own measures.

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
        return int(self._rows[min(numbers)[1]]["epoch"])

    def to_pandas(self) -> pandas.DataFrame:
        """Return the columns as a pandas DataFrame, one row an epoch."""
        frame: pandas.DataFrame = optional_module("pandas", "History.to_pandas", "gdcore[pandas]").DataFrame(dict(self))
        return frame.astype({"epoch": int}) if "epoch" in frame else frame

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns to a CSV file with a header; numbers are written so that they read back exactly."""
        import csv

        columns = list(self)
        with open(os.fspath(path), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(csv_row(row, columns) for row in self._rows)

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
            Where to save the picture (the ending gives the format: .png, .svg, .pdf). Without it the picture belongs to
            matplotlib.pyplot, to be shown by a notebook or ``plt.show()``.
        measure : str
            "loss" or a metric's name, without "val_".
        log : bool
            Logarithmic vertical axis.
        mode : {"min", "max"}, optional
            Which way is better; known for gdcore's own measures.

        Returns
        -------
        matplotlib Axes
            To add to, or to save by ``axes.figure.savefig``.

        Raises
        ------
        KeyError
            If neither `measure` nor ``val_<measure>`` is a column.
        ImportError
            If matplotlib is not installed.
        """
        from ._plot import learning_curve

        return learning_curve(self, path, measure, log, direction(measure, mode))


def csv_row(row: Mapping[str, Any], columns: list[str]) -> list[str]:
    """Return the cells of a CSV line: whole numbers without a point, other numbers in full, missing ones empty."""
    return ["" if (value := row.get(name)) is None else repr(value) for name in columns]
