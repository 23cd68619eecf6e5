"""Loss and metrics of data that is held ready, in one pass over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import _core
from ._arrays import Array, same_rows, to_array, to_targets
from .metrics import Predictions

if TYPE_CHECKING:
    from .trainer import Trainer


class Held:
    """Data that a trainer can train on or measure, checked once.

    Parameters
    ----------
    trainer : Trainer
        Its model and loss say what fits.
    x, y, weights : array
        Inputs (N, in_features), targets, and a weight for each row or None.
    name : str
        What the data is called in messages: empty for the arguments x and y themselves.
    rows : ndarray of int64, optional
        The rows to measure; all when left out.
    """

    def __init__(
        self, trainer: Trainer, x: object, y: object, weights: object, name: str = "", rows: Array | None = None
    ) -> None:
        label = f"{name}: " if name else ""
        inputs = to_array(x, f"{label}x")
        self._targets = to_targets(y, f"{label}y", trainer.model.classes)
        same_rows(f"{label}y", self._targets, "x", inputs)
        self._weights = None if weights is None else to_array(weights, f"{label}sample_weight")
        if self._weights is not None:
            same_rows(f"{label}sample_weight", self._weights, "x", inputs)
        try:
            self.dataset = _core.Dataset(
                inputs, self._targets, self._weights, trainer.loss, trainer.model, trainer.check_finite
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{label}{error}") from None
        self.rows = rows
        self._outputs: Array | None = None
        self._truth: tuple[Array, Array | None] = (self._targets, self._weights)

    def __len__(self) -> int:
        """Return the number of rows that are measured."""
        return len(self.dataset) if self.rows is None else len(self.rows)

    def part(self, rows: npt.NDArray[np.int64]) -> Held:
        """Return some of the rows, without a copy of them."""
        other = object.__new__(Held)
        other.__dict__.update(self.__dict__, rows=rows, _outputs=None)
        return other

    def measure(self, trainer: Trainer, prefix: str = "", batch_size: int = 1024) -> dict[str, float]:
        """Return "loss" and the trainer's metrics, their names preceded by `prefix`."""
        if trainer.metrics and self._outputs is None:
            self._prepare(trainer)
        loss_sum, weight_sum = trainer.core.evaluate(
            self.dataset, batch_size=batch_size, order=self.rows, outputs=self._outputs
        )
        values = {f"{prefix}loss": loss_sum / weight_sum if weight_sum else 0.0}
        if self._outputs is not None:
            model = trainer.model
            seen = Predictions(self._outputs, *self._truth, meaning=model.outputs, classes=model.classes)
            values |= {prefix + name: metric(seen) for name, metric in trainer.metrics.items()}
        return values

    def _prepare(self, trainer: Trainer) -> None:
        """Make room for the predictions, and gather what metrics compare them with."""
        if self.rows is not None:
            self._truth = self._targets[self.rows], None if self._weights is None else self._weights[self.rows]
        self._outputs = np.empty((len(self), trainer.model.out_features), trainer.model.dtype)
