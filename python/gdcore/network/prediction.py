"""`Predictor`: predictions of a network, names of its columns and classes, meaning of its outputs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import _core
from ..internal.arguments import explained, face_of
from ..internal.arrays import Array, Data, Windowed, to_array
from ..internal.checks import flag, shown
from ..internal.features import Columns, FeatureNames, feature_names
from ..internal.immutable import Views
from ..internal.inputs import Inputs, to_inputs
from ..internal.labels import Classes, are_numbers_from_0, class_names
from ..internal.numbers import SAFE, SMALL, check_codes, check_numbers, vdot
from ..internal.outputs import QUANTITIES, checked_meaning, expected_counts, named_answers, not_finite, probabilistic
from .scaling import Unrepresentable, described, refuse, unrepresentable_column

if TYPE_CHECKING:
    from .frozen import FrozenPredictor

__all__ = ["Predictor"]

# A single row of a small network takes 3.5 µs; attribute look-ups of these names would take a tenth of it.
FLOAT64 = np.dtype(np.float64)
UNKNOWN = Unrepresentable(-1, -1)  # not cached, because views may change the scaling
ROWS = 1024  # default number of rows computed at once
_ndarray = np.ndarray
_predict = _core.Network.predict
_predict_finite = _core.Network.predict_finite
Method = TypeVar("Method", bound=Callable[..., Any])


def _quick(whole: Method) -> Method:
    """Return `Predictor.predict`: a quick way for some rows of the right type, before the `whole` method.

    To take any options, which `whole` explains if they are wrong, is as quick as to fill in their defaults.
    """
    explaining = explained(whole)

    @face_of(explaining)
    def predict(self: Predictor, x: Data, **options: Any) -> Array:
        # One call of the core, with its default batch size: another argument would take a tenth of the time of one row.
        if not options and type(x) is _ndarray and self._unrepresentable is None and not self._code_columns:
            kind = x.dtype
            if kind is self._type:
                outputs = _predict_finite(self, x)
                if outputs is not None:
                    return outputs
            elif kind is FLOAT64 and x.size <= SMALL and vdot(x, x) < SAFE:
                return _predict(self, x)
        try:
            return whole(self, x, **options)  # type: ignore[no-any-return]
        except TypeError:
            if not options:
                raise
        return explaining(self, x, **options)  # type: ignore[no-any-return]  # which raises it again, or says why

    return predict


@explained
class Predictor(_core.Network):
    """A network with names of its inputs and a meaning of its outputs; a base of `gdcore.Sequential`."""

    _classes: Classes | None
    _outputs: str | None
    _feature_names: FeatureNames | None
    _target_names: FeatureNames | None
    _takes_numbers: bool
    _unrepresentable: Unrepresentable | None = UNKNOWN  # a column whose scaling the dtype cannot hold
    _lent: list[Any]  # weak references to views of buffers
    _type: np.dtype[Any]
    _code_columns: tuple[tuple[int, int], ...]  # inputs that hold category codes, and their numbers of categories

    @property
    def layers(self) -> tuple[_core.Layer, ...]:
        """The layers, in order; a Standardizer and a PiecewiseLinear have the values in ``buffers()``."""
        layers: tuple[_core.Layer, ...] = super().layers
        scaled = any(isinstance(layer, (_core.Standardizer, _core.PiecewiseLinear)) for layer in layers)
        return described(layers, super().buffers()) if scaled else layers

    def parameters(self) -> dict[str, Any]:
        """Return views of the trained arrays, such as "layers.0.weight" (out, in)."""
        return Views(super().parameters())

    def gradients(self) -> dict[str, Any]:
        """Return views of the gradients of the last backward pass, by the names of their parameters."""
        return Views(super().gradients())

    def buffers(self) -> dict[str, Any]:
        """Return views of the arrays that are kept but not trained, such as "layers.1.running_mean"."""
        views = Views(super().buffers())
        self._unrepresentable = UNKNOWN
        self._lent = [view for view in self._lent if view() is not None]
        for view in views.values():
            try:
                self._lent.append(weakref.ref(view))
            except TypeError:  # a view without weak references counts as always alive
                self._lent.append(lambda: True)
        return views

    @property
    def classes(self) -> Classes | None:
        """Names of the classes or answers, if any; can be set, None removes them."""
        return self._classes

    @classes.setter
    def classes(self, names: Iterable[object] | None) -> None:
        if isinstance(names, (Set, Mapping)):
            raise TypeError(f"classes: got {shown(names)}; expected a sequence of names, in the order of the outputs")
        given = None if names is None else class_names(names, self.out_features)
        if given is not None and self.outputs in QUANTITIES:
            raise ValueError(f"classes: got names for a model whose outputs are {self.outputs!r}; expected None")
        self._classes = given
        self._takes_numbers = self._classes is None or are_numbers_from_0(self._classes)

    @property
    def takes_numbers(self) -> bool:
        """Whether numeric labels are used without look-up in ``classes``."""
        return self._takes_numbers

    @property
    def feature_names(self) -> FeatureNames | None:
        """Names of the input columns, if known; can be set, to those of a first `Standardizer`; None removes them."""
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names: Sequence[str] | None) -> None:
        self._feature_names = self.checked_names(names)

    def checked_names(self, names: object) -> FeatureNames | None:
        """Return names of the input columns as a tuple; raise ValueError if they are not the Standardizer's."""
        checked = None if names is None else feature_names(names, self.in_features)
        first = self.layers[0]
        fitted = getattr(first, "feature_names", None)  # of a Standardizer or a PiecewiseLinear
        if fitted is not None and checked != fitted:
            raise ValueError(
                f"feature_names: got {shown(names)}; expected those of the model's {type(first).__name__}, "
                f"{shown(fitted)}: the columns that it was fitted to"
            )
        return checked

    @property
    def target_names(self) -> FeatureNames | None:
        """Names of the target columns, if known; can be set, None removes them.

        One for each output. Where several outputs belong to a target, as with the loss `Quantile`, one for each target;
        every other loss refuses that.
        """
        return self._target_names

    @target_names.setter
    def target_names(self, names: Sequence[str] | None) -> None:
        outputs = self.out_features
        count = len(names) if names is not None and hasattr(names, "__len__") else 0
        if count > 0 and outputs % count == 0 and self._outputs in (None, "numbers"):
            outputs = count  # fewer than outputs: of targets with several quantiles each; losses check the number
        self._target_names = None if names is None else feature_names(names, outputs, "target_names", "output")

    def learn_names(self, columns: Columns) -> None:
        """Store the column names of training data, if none are known yet."""
        if self._feature_names is None and columns.x is not None:
            self.feature_names = columns.x
        if self._target_names is None and columns.y is not None:
            self.target_names = columns.y

    @property
    def outputs(self) -> str | None:
        """Meaning of the outputs: "numbers", "counts", "classes" or "yes_no"; None if unknown. It can be set once."""
        return self._outputs

    @outputs.setter
    def outputs(self, meaning: str) -> None:
        self._outputs = checked_meaning(meaning, self)
        self._unrepresentable = UNKNOWN

    def forward(self, x: Data, training: bool = True, *, check_finite: bool = True) -> Array:
        """Return the outputs (rows, out_features) for the batch `x`, computed as in training.

        Parameters
        ----------
        x : array
            Inputs, shape (rows, in_features); as in `predict`. Must not change before `backward`.
        training : bool
            Whether to save values for `backward`, apply dropout (the same mask until the next optimiser step) and
            update running averages.
        check_finite : bool
            As in `predict`.
        """
        return super().forward(self._checked(x, check_finite), training)

    def backward(self, dout: Data, *, check_finite: bool = True) -> Array:
        """Return the gradient of x from the output's gradient; parameter gradients go to ``gradients()``.

        Parameters
        ----------
        dout : array
            Gradient of `forward`'s output, shape (rows, out_features).
        check_finite : bool
            Whether NaN, infinity and values that the model's dtype cannot hold are refused.

        Returns
        -------
        ndarray
            Shape (rows, in_features), of the model's dtype.

        Raises
        ------
        TypeError, ValueError
            If `dout` does not fit.
        RuntimeError
            Without an earlier forward pass in training mode.
        """
        gradient = to_array(dout, "dout")
        if flag(check_finite, "check_finite"):
            check_numbers(gradient, self.dtype, "dout")
        return super().backward(gradient)

    @_quick
    def predict(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the outputs for the rows of `x`: values, logits where the loss takes logits, or expected counts.

        Parameters
        ----------
        x : array
            Inputs, shape (N, in_features); the columns of a frame are matched by name if ``feature_names`` are known.
            Also `gdcore.data.Parquet`, read in windows.
        batch_size : int
            Rows computed at once; bounds the memory, does not change the results' meaning.
        check_finite : bool
            Whether NaN, infinity and values that the model's dtype cannot hold are refused.

        Returns
        -------
        ndarray
            Shape (N, out_features), of the model's dtype. Where ``outputs`` is "counts", the exponentials of what the
            network computes (and `forward` returns).

        Raises
        ------
        TypeError
            If `x` holds anything but numbers.
        ValueError
            If its columns are not the model's, or a value is refused; the message names row and column.
        """
        if isinstance(x, Windowed):
            return self._predict_windows(x, batch_size, check_finite)
        found = _predict(self, self._checked(x, check_finite), batch_size=batch_size)
        return expected_counts(found) if self._outputs == "counts" else found

    def _predict_windows(self, x: Windowed, batch_size: int, check_finite: bool) -> Array:
        if flag(check_finite, "check_finite"):
            self.check_scaling(self._feature_names)

        def predict(window: Inputs) -> Array:
            return self.predict(window, batch_size=batch_size, check_finite=False)

        return x.predicted(predict, self._feature_names, self.dtype, check_finite)

    def predictor(self) -> FrozenPredictor:
        """Return a copy of the model for serving, which only predicts, at the full speed from the second call on.

        The copy does not change with the model. A model itself predicts as fast as long as nobody holds a view of its
        ``parameters()`` and its weights stay the same.
        """
        from .frozen import FrozenPredictor

        return FrozenPredictor(self)

    def initialize(self, seed: int) -> None:
        """Draw all parameters anew and reset the buffers; `seed` becomes the model's seed."""
        super().initialize(seed)
        self._unrepresentable = UNKNOWN

    def _prepare(self) -> None:
        """Cache the values that every prediction needs."""
        self._type = np.dtype(self.dtype)
        self._code_columns = tuple(self._codes)
        self._lent = []
        self.unrepresentable()

    def unrepresentable(self) -> Unrepresentable | None:
        """Return a column whose scaling the dtype cannot hold, if there is one."""
        if self._unrepresentable != UNKNOWN:
            return self._unrepresentable
        found = unrepresentable_column(super().layers, super().buffers())
        # Never known for counts, so that `predict` takes its long way, with the exponentials.
        if all(view() is None for view in self._lent) and self._outputs != "counts":
            self._unrepresentable, self._lent = found, []
        return found

    def _checked(self, x: object, finite: bool, name: str = "x") -> Array:
        """Return inputs as an array in the order of the model's columns; with `finite`, values are checked."""
        finite = flag(finite, "check_finite")
        inputs = to_inputs(x, name, self._feature_names)
        if finite:
            self.check_inputs(inputs, name)
        self.check_codes(inputs, name)
        return inputs.array

    def check_codes(self, inputs: Inputs, name: str = "x") -> None:
        """Raise ValueError for a value that is no category code in a column that an `Embedding` reads."""
        if self._code_columns and inputs.array.ndim == 2 and inputs.array.shape[1] == self.in_features:
            check_codes(inputs.array, self._code_columns, name, inputs.names)

    @property
    def has_codes(self) -> bool:
        """Whether inputs have columns of category codes."""
        return bool(self._code_columns)

    def check_inputs(self, inputs: Inputs, name: str = "x") -> None:
        """Raise ValueError for a value, of `inputs` or of the model's scaling, that the dtype cannot hold."""
        check_numbers(inputs.array, self.dtype, name, inputs.names)
        self.check_scaling(inputs.names)

    def check_scaling(self, names: FeatureNames | None) -> None:
        """Raise ValueError if the dtype cannot hold the scaling of a column, which the message names."""
        found = self.unrepresentable()
        if found is not None:
            refuse(super().layers, super().buffers(), found, self.dtype, names)

    def _outputs_of(self, x: Data, batch_size: int, finite: bool) -> Array:
        """Return what `predict` does; without options it takes 5 µs less for a row."""
        if batch_size is ROWS and finite:
            return self.predict(x)
        return self.predict(x, batch_size=batch_size, check_finite=finite)

    def predict_proba(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the probability of each class, or of each yes/no answer being yes.

        Parameters
        ----------
        x : array
            Inputs, shape (N, in_features).
        batch_size : int
            Rows computed at once.
        check_finite : bool
            As in `predict`; the outputs are checked too.

        Returns
        -------
        ndarray
            Of the model's dtype. Classes: (N, C), the softmax of the outputs, each row summing to 1. One yes/no answer:
            (N, 2), of no and of yes, as in scikit-learn. K yes/no answers: (N, K), the sigmoid of each output.

        Raises
        ------
        ValueError
            If the outputs are numbers, or it is not known what they mean (``model.outputs``); if an output is NaN or
            infinite, which names the row.
        """
        meaning, finite = probabilistic(self, "predict_proba"), flag(check_finite, "check_finite")
        logits = self._outputs_of(x, batch_size, finite)
        kind = "classes" if meaning == "classes" else "yes" if logits.shape[1] > 1 else "no_and_yes"
        found = _core.probabilities(logits, kind, finite)
        if found is None:
            raise not_finite(logits, "predict_proba")
        return found

    def predict_classes(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the most probable class of each row, or the answers.

        Parameters
        ----------
        x : array
            Inputs, shape (N, in_features).
        batch_size : int
            Rows computed at once.
        check_finite : bool
            As in `predict`; the outputs are checked too.

        Returns
        -------
        ndarray
            Classes, and one yes/no answer: (N,), class names where the model has them, otherwise indices from 0
            (int64). K yes/no answers: (N, K) of bool, True where yes is more probable; ``classes`` names the columns.

        Raises
        ------
        ValueError
            If the outputs are numbers, or it is not known what they mean (``model.outputs``); if an output is NaN or
            infinite, which names the row.
        """
        meaning, finite = probabilistic(self, "predict_classes"), flag(check_finite, "check_finite")
        logits = self._outputs_of(x, batch_size, finite)
        if finite and _core.first_nonfinite(logits) >= 0:
            raise not_finite(logits, "predict_classes")
        return named_answers(logits, meaning, self.classes)
