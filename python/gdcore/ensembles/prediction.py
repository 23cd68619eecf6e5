"""`MeanPredictor`: predictions of several models, and the facts about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Array, Data
from ..internal.attributes import Closed, Hinted
from ..internal.checks import flag, integer
from ..internal.inputs import Inputs, to_inputs
from ..internal.numbers import check_numbers
from ..internal.outputs import QUANTITIES, named_answers, not_finite, probabilistic
from ..model import Sequential
from ..network.prediction import ROWS
from .averaging import Float64, Mean
from .members import agreed, known_names

if TYPE_CHECKING:
    from ..internal.features import FeatureNames
    from ..internal.labels import Classes

__all__ = ["MeanPredictor"]


@explained
class MeanPredictor(Hinted, Closed):
    """Models with weights, and the mean of their predictions; the base of `gdcore.Ensemble`."""

    __slots__ = ("_average", "_dtypes", "_models", "_shares", "_weights")
    _models: tuple[Sequential, ...]
    _weights: tuple[float, ...]
    _average: str
    _shares: Float64  # the weights, scaled
    _dtypes: list[str]  # of the models, sorted

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self._models[0].in_features

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self._models[0].out_features

    @property
    def dtype(self) -> str:
        """Type of the predictions: "float64" if a model has it, otherwise "float32"."""
        return self._dtypes[-1]

    @property
    def device(self) -> str:
        """Device of the models, "cpu" or "cuda"; "mixed" if they differ."""
        devices = {str(model.device) for model in self._models}
        return devices.pop() if len(devices) == 1 else "mixed"

    @property
    def outputs(self) -> str | None:
        """Meaning of the outputs, as the models'."""
        meaning: str | None = agreed(self._models, "outputs")
        return meaning

    @property
    def classes(self) -> Classes | None:
        """Names of the classes or answers, if any."""
        classes: Classes | None = agreed(self._models, "classes")
        return classes

    @property
    def feature_names(self) -> FeatureNames | None:
        """Names of the input columns, if a model knows them."""
        return known_names(self._models, "feature_names")

    @property
    def target_names(self) -> FeatureNames | None:
        """Names of the target columns, if a model knows them."""
        return known_names(self._models, "target_names")

    @explained
    def predict(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the outputs of the ensemble for the rows of `x`.

        Parameters
        ----------
        x : array
            Inputs, shape (N, in_features), as for `Sequential.predict`; read once for all models.
        batch_size : int
            Rows that a model computes at once.
        check_finite : bool
            As in `Sequential.predict`.

        Returns
        -------
        ndarray
            Shape (N, out_features), of ``dtype``. The mean of the outputs; where probabilities are averaged, the
            logits of the mean probabilities: log p of classes, log p - log(1 - p) of answers. A probability of 0 in
            all models counts as 2.2e-308 there.

        Raises
        ------
        TypeError, ValueError
            As `Sequential.predict`; or if models no longer agree.
        """
        return self._outputs(x, batch_size, flag(check_finite, "check_finite"))

    def predict_proba(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the probability of each class, or of each yes/no answer being yes.

        Arguments, shapes and errors are those of `Sequential.predict_proba`. The result, of ``dtype``, is the mean of
        the probabilities of the models, or the probability of their mean outputs.
        """
        meaning, finite = probabilistic(self, "predict_proba"), flag(check_finite, "check_finite")
        caller = "predict_proba" if finite else ""
        if self._average == "outputs":
            logits = self._outputs(x, batch_size, finite, caller)
            kind = "classes" if meaning == "classes" else "yes" if logits.shape[1] > 1 else "no_and_yes"
            found = _core.probabilities(logits, kind, False)
            assert found is not None  # values are not checked
            return found
        mean = self._mean()
        return self._by_rows(
            x, batch_size, finite, lambda *part, first: _shown(mean.over(*part, caller=caller, first=first), meaning)
        )

    def predict_classes(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the most probable class of each row, or the answers.

        Arguments, shapes and errors are those of `Sequential.predict_classes`. Of equal classes it is the first.
        """
        meaning, finite = probabilistic(self, "predict_classes"), flag(check_finite, "check_finite")
        logits = self._outputs(x, batch_size, finite, "predict_classes" if finite else "")
        return named_answers(logits, meaning, self.classes)

    def predict_members(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return what is averaged: the probabilities of each model, or its outputs.

        Arguments are those of `predict`.

        Returns
        -------
        ndarray
            Shape (M, N, ...) for M models, of ``dtype``: for each of them the rows of `predict_proba` where
            probabilities are averaged, otherwise those of `predict`.
        """
        mean = self._mean()

        def stacked(*part: Any, first: int) -> Array:
            return np.stack([_shown(term, mean.of) for term in mean.terms(*part)], axis=1)

        found = self._by_rows(x, batch_size, flag(check_finite, "check_finite"), stacked)
        return np.ascontiguousarray(np.moveaxis(found, 1, 0))

    def predict_std(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return how far the models are apart: the standard deviation of `predict_members` over the models.

        Arguments are those of `predict`.

        Returns
        -------
        ndarray
            Shape (N, ...) as in `predict_members`, of ``dtype``: √(Σ_m w_m (p_m - p̄)²) with weights w_m of sum 1, p̄ =
            Σ_m w_m p_m. Equal weights divide by M (``ddof=0``), not by M - 1. Computed in float64.
        """
        mean = self._mean()

        def spread(*part: Any, first: int) -> Array:
            return mean.spread([_shown(term, mean.of) for term in mean.terms(*part)])

        return self._by_rows(x, batch_size, flag(check_finite, "check_finite"), spread)

    def _mean(self) -> Mean:
        """Return the mean of what is averaged."""
        meaning = self.outputs
        of = None if self._average == "outputs" or meaning in QUANTITIES else meaning
        return Mean(self._models, self._shares, of)

    def _outputs(
        self, x: Data | Inputs, batch_size: int, finite: bool, caller: str = "", shares: Float64 | None = None
    ) -> Array:
        """Return what `predict` does.

        `caller` is the call that refuses outputs that are not finite; `shares` are weights in each row, (M, rows), in
        place of those of the models.
        """
        mean = self._mean()

        def outputs(part: Array, options: dict[str, Any], first: int) -> Array:
            rows = mean if shares is None else mean._replace(shares=shares[:, first : first + len(part)])
            return rows.outputs(part, options, caller=caller, first=first)

        found = self._by_rows(x, batch_size, finite, outputs)
        if caller and _core.first_nonfinite(found) >= 0:  # the mean of huge numbers
            raise not_finite(found, caller)
        return found

    def _members(self, x: Data) -> Float64:
        """Return what is averaged in float64, (M, N, ...), in the shape of `Mean`; refuse what is not finite."""
        mean = self._mean()

        def stacked(*part: Any, first: int) -> Array:
            return np.stack(list(mean.terms(*part, wide=True, caller="select", first=first)), axis=1)

        return np.ascontiguousarray(np.moveaxis(self._by_rows(x, ROWS, True, stacked, "float64"), 1, 0))

    def _by_rows(
        self, x: Data | Inputs, batch_size: int, finite: bool, make: Callable[..., Array], dtype: str = ""
    ) -> Array:
        """Return ``make(rows of x, options of Sequential.predict, first=...)`` for all rows, some at a time."""
        array, size = self._checked(x, finite), integer(batch_size, "batch_size", minimum=1)
        options = {} if finite and size == ROWS else {"batch_size": size, "check_finite": False}
        step, out = max(size, ROWS), None
        for first in range(0, max(len(array), 1), step):
            part = make(array[first : first + step], options, first=first)
            if out is None:
                out = np.empty((len(array), *part.shape[1:]), dtype or self.dtype)
            out[first : first + step] = part
        assert out is not None
        return out

    def _checked(self, x: Data | Inputs, finite: bool) -> Array:
        """Return inputs (N, in_features) in the order of the models' columns; with `finite`, values are checked."""
        inputs = to_inputs(x, "x", self.feature_names)
        if inputs.array.ndim != 2 or inputs.array.shape[1] != self.in_features:
            self._models[0].predict(inputs.array)  # which refuses the shape
        for model in self._models:
            model.check_codes(inputs)
        if finite:
            check_numbers(inputs.array, self._dtypes[0], "x", inputs.names)
            for model in self._models:
                if model.unrepresentable() is not None:
                    model.check_inputs(inputs)  # which refuses its scaling
        return inputs.array


def _shown(found: Array, of: str | None) -> Array:
    """Return probabilities in the shape of `predict_proba`; outputs are unchanged."""
    if of != "yes_no":
        return found
    return found[:, 0] if found.shape[1] == 1 else found[..., 1]
