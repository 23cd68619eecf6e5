"""The losses of training by steps: the rows of ``fit(log_every=...)``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    """

    records = True

    def __init__(self) -> None:
        self.history = StepHistory()
        self.every = 1
        # Loss and weight since the last row: those of earlier epochs, and a difference of two sums of this epoch. Sums
        # over slices of time would be rounded differently in each run.
        self._earlier = self._first = self._last = (0.0, 0.0)
        self._seconds = 0.0  # since the last row
        self._steps = 0  # steps of the trainer that are included
        self._since = 0.0  # time since which seconds are not yet included

    def begin(self, steps: int, sums: tuple[float, float]) -> None:
        """Begin or continue at a number of steps, with the sums of loss and weight in this epoch so far.

        Steps made elsewhere since the last call start a new mean.
        """
        if steps != self._steps:
            self._steps, self._earlier, self._seconds, self._first = steps, (0.0, 0.0), 0.0, sums
        elif sums != self._last:  # another epoch
            self._earlier, self._first = self._since_row(), sums
        self._last = sums
        self._since = time.perf_counter()

    def left(self) -> int:
        """Return the number of steps up to the next row."""
        return self.every - self._steps % self.every

    def add(self, trainer: Trainer, sums: tuple[float, float]) -> None:
        """Include the steps up to the sums `sums` of loss and weight in this epoch; write a row when it is complete."""
        now, stepped = time.perf_counter(), trainer.steps > self._steps  # no step where an iterable ends
        self._seconds += now - self._since
        self._since, self._steps, self._last = now, trainer.steps, sums
        if stepped and self._steps % self.every == 0:
            loss, weight = self._since_row()
            mean = loss / weight if weight else math.nan  # 0 if all rows have the weight 0
            rate = trainer.rates.at(self._steps - 1) * trainer.lr_scale
            self.history.append({"step": self._steps, "loss": mean, "lr": rate, "seconds": self._seconds})
            self._earlier, self._seconds, self._first = (0.0, 0.0), 0.0, sums

    def _since_row(self) -> tuple[float, float]:
        """Return the sums of loss and weight since the last row."""
        loss, weight = (e + (b - a) for e, a, b in zip(self._earlier, self._first, self._last, strict=True))
        return loss, weight

    def cut(self, steps: int) -> None:
        """Remove the rows of steps after a number of steps, to which a trainer returns."""
        kept = sum(step <= steps for step in self.history.get("step", ()))
        self.history.replace(StepHistory({name: column[:kept] for name, column in self.history.items()}))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the sums since the last one."""
        rows = {f"{ROWS}{name}": column for name, column in self.history.items()}
        sums = [*self._earlier, *self._first, *self._last, self._seconds]
        return {"steps": self._steps, "sums": sums, **rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        steps = json_values.whole(state.get("steps"), "StepLog: steps")
        sums = json_values.listing(state.get("sums"), "StepLog: sums", json_values.number)
        if len(sums) != 7:
            raise json_values.wrong("StepLog: sums", sums, "7 numbers")
        rows = {name.removeprefix(ROWS): column for name, column in state.items() if name.startswith(ROWS)}
        self.history.replace(StepHistory(rows))
        self._earlier, self._first, self._last = (sums[0], sums[1]), (sums[2], sums[3]), (sums[4], sums[5])
        self._steps, self._seconds = steps, sums[6]
        self._since = time.perf_counter()
