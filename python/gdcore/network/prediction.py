"""`Predictor`: what a network says about rows, and what it knows of its inputs and outputs."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from .. import _core
from ..internal.arguments import explained
from ..internal.arrays import Array, Data, to_array
from ..internal.checks import flag, shown
from ..internal.features import Columns, FeatureNames, feature_names
from ..internal.immutable import Views
from ..internal.inputs import Inputs, to_inputs
from ..internal.labels import Classes, are_numbers_from_0, class_array, class_names
from ..internal.numbers import SAFE, SMALL, check_numbers, vdot
from ..internal.outputs import answers, check_outputs, checked_meaning, probabilistic, probabilities
from .scaling import Unheld, described, refuse, unheld

__all__ = ["Predictor"]

# A single row of a small network takes 3.5 µs, of which looking these up as attributes would be a tenth.
FLOAT64 = np.dtype(np.float64)
UNKNOWN = Unheld(-1, -1)  # as long as somebody may write into the scaling
ROWS = 1024  # computed at once unless asked otherwise
_ndarray = np.ndarray
_predict = _core.Network.predict
_predict_finite = _core.Network.predict_finite


@explained
class Predictor(_core.Network):
    """A network with names for its inputs and a meaning of its outputs; `gdcore.Sequential` is made from it."""

    _classes: Classes | None
    _outputs: str | None
    _feature_names: FeatureNames | None
    _target_names: FeatureNames | None
    _takes_numbers: bool
    _unheld: Unheld | None = UNKNOWN  # a column whose scaling the dtype does not hold
    _lent: list[Any]  # references to views of buffers
    _type: np.dtype[Any]

    @property
    def layers(self) -> tuple[_core.Layer, ...]:
        """The layers, in order; a Standardizer has the numbers that are in ``buffers()``."""
        layers: tuple[_core.Layer, ...] = super().layers
        scaled = any(isinstance(layer, _core.Standardizer) for layer in layers)
        return described(layers, super().buffers()) if scaled else layers

    def parameters(self) -> dict[str, Any]:
        """Return the arrays that are trained, such as "layers.0.weight" (out, in): views."""
        return Views(super().parameters())

    def gradients(self) -> dict[str, Any]:
        """Return the gradients of the last backward pass, by the names of their parameters: views."""
        return Views(super().gradients())

    def buffers(self) -> dict[str, Any]:
        """Return the arrays that are kept but not trained, such as "layers.1.running_mean": views."""
        views = Views(super().buffers())
        self._unheld = UNKNOWN
        self._lent = [view for view in self._lent if view() is not None]
        for view in views.values():
            try:
                self._lent.append(weakref.ref(view))
            except TypeError:  # a view that cannot be watched counts as there for ever
                self._lent.append(lambda: True)
        return views

    @property
    def classes(self) -> Classes | None:
        """Names of the classes or answers, where there are any; can be set, None forgets them."""
        return self._classes

    @classes.setter
    def classes(self, names: Iterable[object] | None) -> None:
        if isinstance(names, (Set, Mapping)):
            raise TypeError(f"classes: got {shown(names)}; expected a sequence of names, in the order of the outputs")
        given = None if names is None else class_names(names, self.out_features)
        if given is not None and self.outputs == "numbers":
            raise ValueError("classes: got names for a model whose outputs are 'numbers'; expected None")
        self._classes = given
        self._takes_numbers = self._classes is None or are_numbers_from_0(self._classes)

    @property
    def takes_numbers(self) -> bool:
        """Whether labels that are numbers need no looking up."""
        return self._takes_numbers

    @property
    def feature_names(self) -> FeatureNames | None:
        """Names of the input columns, where they are known; can be set to those of the scaling, None forgets them."""
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names: Sequence[str] | None) -> None:
        self._feature_names = self.checked_names(names)

    def checked_names(self, names: object) -> FeatureNames | None:
        """Return names of the input columns as a tuple; raise ValueError where they are not those of the scaling."""
        checked = None if names is None else feature_names(names, self.in_features)
        scaled = getattr(self.layers[0], "feature_names", None)  # of a Standardizer
        if scaled is not None and checked != scaled:
            raise ValueError(
                f"feature_names: got {shown(names)}; expected those of the model's Standardizer, {shown(scaled)}: the "
                "columns that it scales"
            )
        return checked

    @property
    def target_names(self) -> FeatureNames | None:
        """Names of the columns of targets, where they are known; can be set, None forgets them."""
        return self._target_names

    @target_names.setter
    def target_names(self, names: Sequence[str] | None) -> None:
        self._target_names = (
            None if names is None else feature_names(names, self.out_features, "target_names", "output")
        )

    def learn_names(self, columns: Columns) -> None:
        """Remember the column names of training data, if none are known yet."""
        if self._feature_names is None and columns.x is not None:
            self.feature_names = columns.x
        if self._target_names is None and columns.y is not None:
            self.target_names = columns.y

    @property
    def outputs(self) -> str | None:
        """What the outputs mean, "numbers", "classes" or "yes_no"; None while that is not known. It can be set once."""
        return self._outputs

    @outputs.setter
    def outputs(self, meaning: str) -> None:
        self._outputs = checked_meaning(meaning, self)

    def forward(self, x: Data, training: bool = True, *, check_finite: bool = True) -> Array:
        """Return the outputs (rows, out_features) for the batch `x`, computed as in training.

        Parameters
        ----------
        x : array
            Inputs, shape (rows, in_features); as in `predict`. Must not change before `backward`.
        training : bool
            Whether to keep what `backward` needs, draw dropout (the same mask until the next optimiser step) and move
            running averages.
        check_finite : bool
            As in `predict`.
        """
        return super().forward(self._checked(x, check_finite), training)

    def backward(self, dout: Data, *, check_finite: bool = True) -> Array:
        """Return the gradient of x from that of `forward`'s output; that of all parameters goes to ``gradients()``.

        Parameters
        ----------
        dout : array
            Gradient of the output, shape (rows, out_features).
        check_finite : bool
            Whether NaN, infinity and numbers that the model's dtype does not hold are refused.

        Returns
        -------
        ndarray
            Shape (rows, in_features), of the model's dtype.

        Raises
        ------
        TypeError, ValueError
            If `dout` does not fit.
        RuntimeError
            If there was no forward pass in training before.
        """
        gradient = to_array(dout, "dout")
        if flag(check_finite, "check_finite"):
            check_numbers(gradient, self.dtype, "dout")
        return super().backward(gradient)

    def predict(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the outputs for the rows of `x`: values, or logits where the loss takes logits.

        Parameters
        ----------
        x : array
            Inputs, shape (N, in_features); the columns of a frame by their names, where ``feature_names`` are known.
        batch_size : int
            Rows computed at once; bounds the memory, does not change the results' meaning.
        check_finite : bool
            Whether NaN, infinity and numbers that the model's dtype does not hold are refused.

        Returns
        -------
        ndarray
            Shape (N, out_features), of the model's dtype.

        Raises
        ------
        TypeError
            If `x` holds anything but numbers.
        ValueError
            If its columns are not the model's, or a number is refused; names row and column.
        """
        # One call of the core, with its own number of rows: another argument would take a tenth of the time of one row.
        if check_finite is True and batch_size is ROWS and type(x) is _ndarray and self._unheld is None:
            kind = x.dtype
            if kind is self._type:
                outputs = _predict_finite(self, x)
                if outputs is not None:
                    return outputs
            elif kind is FLOAT64 and x.size <= SMALL and vdot(x, x) < SAFE:
                return _predict(self, x)
        return _predict(self, self._checked(x, check_finite), batch_size=batch_size)

    def initialize(self, seed: int) -> None:
        """Draw all parameters anew and reset the buffers; `seed` becomes the model's."""
        super().initialize(seed)
        self._unheld = UNKNOWN

    def _prepare(self) -> None:
        """Look up once what every prediction needs."""
        self._type = np.dtype(self.dtype)
        self._lent = []
        self.unheld()

    def unheld(self) -> Unheld | None:
        """Return a column whose scaling the dtype does not hold, if there is one."""
        if self._unheld != UNKNOWN:
            return self._unheld
        found = unheld(super().layers, super().buffers())
        if all(view() is None for view in self._lent):
            self._unheld, self._lent = found, []
        return found

    def _checked(self, x: object, finite: bool, name: str = "x") -> Array:
        """Return inputs as an array in the order of the columns; with `finite`, checked."""
        finite = flag(finite, "check_finite")
        inputs = to_inputs(x, name, self._feature_names)
        if finite:
            self.check_inputs(inputs, name)
        return inputs.array

    def check_inputs(self, inputs: Inputs, name: str = "x") -> None:
        """Raise ValueError for a number, of `inputs` or of the first layer's scaling, that the dtype does not hold."""
        check_numbers(inputs.array, self.dtype, name, inputs.names)
        found = self.unheld()
        if found is not None:
            refuse(super().layers, super().buffers(), found, self.dtype, inputs.names)

    def _logits(self, x: Data, caller: str, batch_size: int, finite: bool) -> tuple[str, Array]:
        """Return what the outputs mean, and those for `x`; with `finite`, inputs and outputs are checked."""
        meaning, finite = probabilistic(self, caller), flag(finite, "check_finite")
        logits = self.predict(x, batch_size=batch_size, check_finite=finite)
        if finite:
            check_outputs(logits, caller)
        return meaning, logits

    def predict_proba(self, x: Data, *, batch_size: int = ROWS, check_finite: bool = True) -> Array:
        """Return the probability of each class, or of each yes.

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
        meaning, logits = self._logits(x, "predict_proba", batch_size, check_finite)
        if meaning == "yes_no" and logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            meaning = "classes"  # softmax of (0, z) is (1 - σ(z), σ(z))
        return probabilities(logits, meaning)

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
        meaning, logits = self._logits(x, "predict_classes", batch_size, check_finite)
        given = answers(logits, meaning)
        if given.ndim == 2 and given.shape[1] > 1:
            return given
        index = given.reshape(len(given)).astype(np.int64, copy=False)
        return index if self.classes is None else class_array(self.classes)[index]
