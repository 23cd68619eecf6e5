"""The best value so far of a column of the history, for callbacks that monitor it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..internal import json_values
from ..internal.attributes import Closed, Fixed, Setting
from ..internal.checks import integer, real, shown
from ..metrics.names import direction, unmeasured

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["Watch", "Watched", "epochs", "watching"]


def epochs(value: object, name: str) -> int:
    """Return a number of epochs of at least 1."""
    return integer(value, name, minimum=1, expected="a number of epochs")


def _improvement(value: object, name: str) -> float:
    return real(value, name, low=0)


class Watch(Closed):
    """The best value of a column so far, and the number of values since.

    Parameters
    ----------
    monitor : str
        The column.
    mode : {"min", "max"} or None
        Whether less or more is better; None: as known for the loss and metrics by name.
    min_delta : float
        Improvements must be larger than this.
    """

    __slots__ = ("_min_delta", "_mode", "_monitor", "best", "since")
    monitor: Fixed[str] = Fixed("Column to watch.", "the best value so far is of that column; make another callback")
    mode: Fixed[str] = Fixed("'min' or 'max'.", "the best value so far was chosen by it; make another callback")
    min_delta: Setting[float] = Setting("Improvements must be larger than this.", _improvement)

    def __init__(self, monitor: str, mode: str | None, min_delta: float) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: got {shown(monitor)}; expected the name of a column, such as 'val_loss'")
        self._monitor = str(monitor)
        self._mode = direction(self._monitor, mode)
        self.min_delta = min_delta
        self.reset()

    def reset(self) -> None:
        """Clear all values."""
        self.best = math.inf if self._mode == "min" else -math.inf
        self.since = 0

    def value(self, logs: Mapping[str, float], who: str) -> float:
        """Return the value of the column, with a warning if it is nan; raise ValueError if there is no such column."""
        if self._monitor not in logs:
            raise ValueError(f"{who}: monitor={self._monitor!r} is not measured; {unmeasured(self._monitor, logs)}")
        if math.isnan(logs[self._monitor]):
            warnings.warn(f"{who}: {self._monitor} is nan, which counts as no improvement", stacklevel=3)
        return logs[self._monitor]

    def better(self, value: float) -> bool:
        """Tell whether a value is better, by more than ``min_delta``; nan never is."""
        return (self.best - value if self._mode == "min" else value - self.best) > self.min_delta

    def improved(self, value: float) -> bool:
        """Take the next value and return whether it is better."""
        if self.better(value):
            self.best, self.since = value, 0
            return True
        self.since += 1
        return False

    def state(self) -> dict[str, Any]:
        """Return the argument of `load`."""
        return {"monitor": self._monitor, "mode": self._mode, "best": self.best, "since": self.since}

    def load(self, state: Mapping[str, Any], who: str) -> None:
        """Restore the best value and the count.

        Raises
        ------
        FormatError
            If they are invalid; nothing is changed then.
        ValueError
            If they are of another column.
        """
        json_values.mapping(state, f"{who}: state")
        for name in ("monitor", "mode"):
            if json_values.text(state.get(name), f"{who}: {name}") != getattr(self, name):
                raise ValueError(f"{who}: other settings: {name}: saved {state[name]!r}, now {getattr(self, name)!r}")
        best = state.get("best")
        if best not in (math.inf, -math.inf):  # the initial values
            best = json_values.number(best, f"{who}: best")
        self.best, self.since = best, json_values.whole(state.get("since"), f"{who}: since")


class Watched(Closed):
    """Common part of callbacks that monitor a column; subclasses create ``_watch``."""

    __slots__ = ("_patience", "_watch")
    _watch: Watch
    patience: Setting[int] = Setting("Epochs without improvement that are waited for.", epochs)

    def __repr__(self) -> str:
        """Return what is watched, and the best value so far."""
        best = f"; best so far: {self._watch.best:.6g}" if math.isfinite(self._watch.best) else ""
        return f"{type(self).__name__}({self.monitor!r}, patience={self.patience}, mode={self.mode!r}{best})"

    @property
    def monitor(self) -> str:
        """Column to watch."""
        return self._watch.monitor

    @property
    def mode(self) -> str:
        """The direction of improvement: "min" or "max"."""
        return self._watch.mode

    @property
    def min_delta(self) -> float:
        """Improvements must be larger than this."""
        return self._watch.min_delta

    @min_delta.setter
    def min_delta(self, value: float) -> None:
        self._watch.min_delta = value


def watching(trainer: Trainer) -> list[Any]:
    """Return the callbacks of the running fit that have a `Watch`, as ``_watch``."""
    callbacks: list[Any] = [] if trainer._fit is None else trainer._fit.callbacks
    return [callback for callback in callbacks if isinstance(getattr(callback, "_watch", None), Watch)]
