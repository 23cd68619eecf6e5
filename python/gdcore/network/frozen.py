"""`FrozenPredictor`: a copy of a model for serving, which only predicts."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from ..internal.arguments import explained, face_of
from ..internal.arrays import Array, Data
from ..internal.attributes import Closed
from .prediction import ROWS, Predictor

if TYPE_CHECKING:
    from ..ensembles.ensemble import Ensemble
    from ..internal.features import FeatureNames
    from ..internal.labels import Classes

__all__ = ["FrozenPredictor"]


@explained
class FrozenPredictor(Closed):
    """A copy of a model, or of an ensemble, that only predicts; ``model.predictor()`` makes it.

    Its results are those of the model at that moment, bit for bit. Later training or writing of the model does not
    change them. Its weights cannot be written, so they are packed for the processor's caches once, in the second call,
    and not again. That takes their memory once more. Threads may share it; their calls take turns. Copies and pickles
    are predictors as well.
    """

    __slots__ = ("_lock", "_model", "_predict")

    def __init__(self, model: Predictor | Ensemble) -> None:
        self._model = copy.copy(model)
        self._predict = self._model.predict
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles."""
        return type(self), (self._model,)

    def __repr__(self) -> str:
        """Return the layers, as the model does."""
        return f"FrozenPredictor({self._model!r})"

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self._model.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self._model.out_features

    @property
    def dtype(self) -> str:
        """Type of the outputs, "float32" or "float64"."""
        return self._model.dtype

    @property
    def device(self) -> str:
        """Device, "cpu" or "cuda"; "mixed" for an ensemble with models on both."""
        name: str = self._model.device
        return name

    @property
    def outputs(self) -> str | None:
        """Meaning of the outputs, as the model's."""
        return self._model.outputs

    @property
    def classes(self) -> Classes | None:
        """Names of the classes or answers, if any."""
        return self._model.classes

    @property
    def feature_names(self) -> FeatureNames | None:
        """Names of the input columns, if known."""
        return self._model.feature_names

    @property
    def target_names(self) -> FeatureNames | None:
        """Names of the target columns, if known."""
        return self._model.target_names

    @face_of(Predictor.predict)
    def predict(self, x: Data, **options: Any) -> Array:  # type: ignore[misc]  # self of another class
        """Return the outputs for the rows of `x`, as `Sequential.predict` does, which explains wrong options."""
        with self._lock:
            return self._predict(x, **options) if options else self._predict(x)

    def predict_proba(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return probabilities, as `Sequential.predict_proba` does."""
        with self._lock:
            return self._model.predict_proba(x, batch_size=batch_size, check_finite=check_finite)

    def predict_classes(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the most probable classes or the answers, as `Sequential.predict_classes` does."""
        with self._lock:
            return self._model.predict_classes(x, batch_size=batch_size, check_finite=check_finite)
