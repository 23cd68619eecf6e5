"""Loss and metrics of outputs that no network computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..internal.arrays import Array, Data
from ..internal.features import UNNAMED
from ..internal.outputs import OF_LOSS
from ..internal.prepared import Prepared, prepared
from ..metrics import Metrics
from ..model import Sequential
from ..standardizer import Standardizer
from ..trainer import Trainer
from ..training.batch_iterables import checked_batches, names_of, parts_of
from .averaging import TINY

if TYPE_CHECKING:
    from .prediction import MeanPredictor

__all__ = ["Judge"]


class Judge:
    """Measures outputs (N, K) against targets, as the `Trainer` of a network that returns its inputs, in float64.

    Parameters
    ----------
    ensemble : MeanPredictor
        Whose outputs they are: their number and meaning, names of classes and targets.
    loss : Loss, optional
        By default that of the outputs' meaning.
    metrics : sequence or mapping
        As for `Trainer`.
    """

    def __init__(self, ensemble: MeanPredictor, loss: _core.Loss | None, metrics: Metrics) -> None:
        columns, meaning = ensemble.out_features, ensemble.outputs
        if loss is None:
            if meaning is None:
                raise ValueError(
                    "loss: is missing, and the meaning of the outputs is unknown; expected a loss, or model.outputs = "
                    "'classes', 'yes_no', 'numbers' or 'counts' for each model first"
                )
            loss = next(kind for kind, each in OF_LOSS.items() if each == meaning)()
        names: dict[str, Any] = {"classes": ensemble.classes, "target_names": ensemble.target_names}
        unchanged = Standardizer(mean=[0.0] * columns, std=[1.0] * columns)
        model = Sequential(unchanged, seed=0, dtype="float64", device="cpu", outputs=meaning, **names)
        self.trainer = Trainer(model, loss, optimizer=_core.SGD(1.0), metrics=metrics)
        self._ensemble = ensemble

    def _network(self, outputs: Array) -> Array:
        """Return what a network computes for outputs as an ensemble predicts them: logarithms of expected counts."""
        if self._ensemble.outputs != "counts":
            return outputs
        return np.log(np.maximum(np.asarray(outputs, np.float64), TINY))  # of 0 in float32 too

    def prepared(self, outputs: Array, y: Data, weights: Data | None) -> Prepared:
        """Return outputs, targets and weights, checked and converted, so that parts of them can be measured."""
        return prepared(self.trainer.model, self.trainer.loss, self._network(outputs), y, weights)

    def measure(self, outputs: Any, y: Data, weights: Data | None) -> dict[str, float]:
        """Return "loss" and the metrics by name."""
        return self.trainer.evaluate(self._network(outputs), y, sample_weight=weights)

    def batches(
        self, outputs: Callable[[Any], Array], x: Data | Iterable[Any], weights: Data | None
    ) -> dict[str, float]:
        """Return "loss" and the metrics over batches (x, y) or (x, y, weights), whose outputs are ``outputs(x)``."""
        given = checked_batches(x, "x", "y")
        named = names_of(given, "x", self._ensemble._models[0], UNNAMED)

        def predicted() -> Iterable[Any]:
            for i, batch in enumerate(given):
                inputs, *rest = parts_of(batch, f"x: batch {i}", named)
                yield (self._network(outputs(inputs)), *(rest if rest[1] is not None else rest[:1]))

        return self.trainer.evaluate(predicted(), sample_weight=weights)
