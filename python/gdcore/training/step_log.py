"""The losses of training by steps: the rows of ``fit(log_every=...)``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..history import StepHistory
from ..internal import json_values

if TYPE_CHECKING:
    from ..trainer import Trainer

ROWS = "history."  # prefix of the names of columns in a state


class StepLog(Callback):
    """Writes a row into a `StepHistory` whenever the number of steps is a multiple of `every`.

    A callback, so that checkpoints contain its state. It belongs to a trainer: steps after the last row count for the
    next one, also if another call of `fit` makes them.

    Attributes
    ----------
    sums : tuple of float
        Sums of loss and weight since the last row, to which the core adds every batch.
    """

    records = True

    def __init__(self) -> None:
        self.history = StepHistory()
        self.every = 1
        self.sums = (0.0, 0.0)
        self._seconds = 0.0  # since the last row
        self._steps = 0  # steps of the trainer that are included
        self._since = 0.0  # time since which seconds are not yet included

    def begin(self, steps: int) -> None:
        """Begin or continue at a number of steps; steps made elsewhere since the last call start a new mean."""
        if steps != self._steps:
            self._steps, self.sums, self._seconds = steps, (0.0, 0.0), 0.0
        self._since = time.perf_counter()

    def add(self, trainer: Trainer) -> None:
        """Include the steps made since the last call; write a row when it is complete.

        At the end of an iterable there may be none. The mean loss of rows whose weights are all 0 is nan.
        """
        now, made = time.perf_counter(), trainer.steps - self._steps
        self._seconds += now - self._since
        self._since, self._steps = now, trainer.steps
        if made and self._steps % self.every == 0:
            loss, weight = self.sums
            mean = loss / weight if weight else math.nan
            rate = trainer.rates.at(self._steps - 1) * trainer.lr_scale
            self.history.append({"step": self._steps, "loss": mean, "lr": rate, "seconds": self._seconds})
            self.sums, self._seconds = (0.0, 0.0), 0.0

    def cut(self, steps: int) -> None:
        """Remove the rows of steps after a number of steps, to which a trainer returns."""
        self.history.replace(StepHistory(row for row in self.history.rows if row["step"] <= steps))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows as arrays, which a file holds at any length, and the sums since the last one."""
        rows = {f"{ROWS}{name}": np.asarray(column) for name, column in self.history.items()}
        return {"steps": self._steps, "sums": [*self.sums, self._seconds], **rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        steps = json_values.whole(state.get("steps"), "StepLog: steps")
        sums = json_values.listing(state.get("sums"), "StepLog: sums", json_values.number)
        if len(sums) != 3:
            raise json_values.wrong("StepLog: sums", sums, "3 numbers")
        rows = {name.removeprefix(ROWS): np.asarray(v).tolist() for name, v in state.items() if name.startswith(ROWS)}
        self.history.replace(StepHistory(rows))
        self._steps, self.sums, self._seconds = steps, (sums[0], sums[1]), sums[2]
        self._since = time.perf_counter()
