"""`PathRecorder`: records the path of the parameters during training, to draw it over a loss surface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..callbacks.watch import epochs
from ..internal.arguments import explained
from ..internal.attributes import Closed, Setting
from ..internal.checks import instance
from ..model import Sequential
from .objective import Vector

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["PathRecorder"]


@explained
class PathRecorder(Closed, Callback):
    """Record the parameters of a model during training, for `LossSurface.plot` and `LossSurface.path`.

    Parameters
    ----------
    every : int
        Epochs between two points, at least 1; the start and the last epoch are always recorded.

    Attributes
    ----------
    epochs : list of int
        The epoch of each point; 0 is the start.

    Notes
    -----
    Keeps one float64 vector (P,) per point. In a training loop of your own, call ``recorder.record(model)`` after each
    step. A second `fit` clears the path of the first; a resumed `fit` continues it.
    """

    __slots__ = ("_epochs", "_every", "_points")
    every: Setting[int] = Setting("Epochs between two points.", epochs)
    records = True  # called after the other callbacks at the end of an epoch

    def __init__(self, *, every: int = 1) -> None:
        self.every = every
        self._epochs: list[int] = []
        self._points: list[Vector] = []

    @property
    def epochs(self) -> list[int]:
        """The epoch of each point (a copy)."""
        return list(self._epochs)

    @property
    def path(self) -> Vector:
        """The points so far, in order of time: shape (T, P), float64, without frozen parameters."""
        return np.stack(self._points) if self._points else np.empty((0, 0))

    def record(self, model: Sequential, *, epoch: int | None = None) -> None:
        """Add the current parameters of a model to the path.

        Parameters
        ----------
        model : Sequential
            The model.
        epoch : int, optional
            The entry in `epochs`. Default: the number of points so far.

        Raises
        ------
        ValueError
            If the number of trainable parameters has changed.
        """
        given = instance(model, Sequential, "model", "gd.Sequential(gd.Dense(2, 1))")
        point = given.flat_parameters().astype(np.float64)
        if self._points and point.size != self._points[0].size:
            raise ValueError(
                f"model: got {point.size} trainable parameters; expected {self._points[0].size}, as at the first point"
            )
        self._epochs.append(len(self._points) if epoch is None else epoch)
        self._points.append(point)

    def on_train_begin(self, trainer: Trainer) -> None:
        """Clear an earlier run, and record the start."""
        self._epochs, self._points = [], []
        self.record(trainer.model, epoch=trainer.epoch)

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, float]) -> None:
        """Record every `every`-th epoch and the last one."""
        if trainer.epoch % self.every == 0 or trainer.stop or trainer.epoch == trainer.last_epoch:
            self.record(trainer.model, epoch=trainer.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the points and their epochs."""
        return {"path": self.path, "epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the points and their epochs."""
        self._points = [np.array(point) for point in np.asarray(state["path"])]
        self._epochs = [int(epoch) for epoch in state["epochs"]]
