"""The history as a CSV file."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING

from ..internal.arguments import explained
from ..internal.attributes import Closed, Fixed
from ..io import destination
from ..table import csv_row
from .callback import Callback

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

    from ..trainer import Trainer

__all__ = ["CSVLog"]


@explained
class CSVLog(Closed, Callback):
    """Write the history to a CSV file, a line at the end of each epoch.

    Parameters
    ----------
    path : path
        The file. A continued or resumed run rewrites it with the earlier epochs, so that no line is repeated.

    Notes
    -----
    The cost of a line does not grow with the epochs; the whole file is written if there are new columns, or if it does
    not end with the previous epoch.
    """

    __slots__ = ("_path", "_written")
    records = True
    path: Fixed[str] = Fixed("The file.", "make another CSVLog")

    def __init__(self, path: StrOrBytesPath) -> None:
        self._path = destination.path_of(path, "path", "a path")
        self._written: tuple[int, list[str], list[float]] | None = None  # the file's size, columns and last line

    def check_fit(self, trainer: Trainer) -> None:
        """Check that the file can be written."""
        if destination.check(self._path, "path") is not None:
            with open(self._path, "a", encoding="utf-8"):
                pass

    def on_train_begin(self, trainer: Trainer) -> None:
        """Create the file, if missing."""
        with open(self._path, "a", encoding="utf-8"):
            pass

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Write the epoch's line; the whole file when there are new columns."""
        history = trainer.history
        before = list(history.row(-2).values()) if history.epochs > 1 else []
        size = os.path.getsize(self._path) if os.path.exists(self._path) else 0
        row = history.last
        if self._written == (size, list(row), before):
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(csv_row(row.values()))
        else:
            history.to_csv(self._path)
        self._written = (os.path.getsize(self._path), list(row), list(row.values()))
