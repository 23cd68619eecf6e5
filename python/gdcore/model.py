"""`Sequential`: a feed-forward network with copies, parameters, files and summary."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

import numpy.typing as npt

from . import _core
from .internal import flat
from .internal.arguments import explained
from .internal.arrays import Array, Data
from .internal.attributes import Hinted, Open
from .internal.checks import choice, seed_or_random, shown
from .internal.labels import ClassName
from .internal.ranges import ranges_of
from .network.exchange import Exchange
from .network.freezing import Freezing
from .network.layers import checked_layers, dtype_name, rebuilt
from .network.prediction import Predictor
from .network.summary import Summarised

if TYPE_CHECKING:
    from .io.destination import FileLike

__all__ = ["Sequential", "load"]

State: TypeAlias = dict[str, Array]


@explained
class Sequential(Open, Hinted, Predictor, Freezing, Summarised, Exchange):
    """A feed-forward network: each layer's output is the next layer's input.

    Parameters
    ----------
    *layers : Layer
        The layers in order, or one list of them. The widths must match: Dense(784, 256), ReLU(), Dense(256, 10). A
        fitted `Standardizer` may be first or precede another `Dense`; after the last `Dense` it is refused. The model
        keeps copies of Standardizers. Layer names (``Dense(256, 10, name="head")``) must be unique.
    seed : int, optional
        Seed of the initial weights and of dropout, 0 to 2⁶³-1; random by default (``model.seed`` returns it).
    dtype : {"float32", "float64"} or NumPy dtype
        Type of parameters and computation.
    device : str
        "auto" (the best available), "cpu", or "cuda".
    precision : {"float32", "tf32", "bfloat16"}
        Precision of the matrix products of `Dense` layers, for models in float32: "tf32" and "bfloat16" may round the
        factors to 10 and 7 binary digits and are faster; parameters and sums stay float32. A CPU does so in training
        steps, if ``gd.info()["cpu_precisions"]`` names the precision, and otherwise computes in float32. Copies keep
        the setting; files do not contain it.
    classes : sequence, optional
        Names of the classes (text, numbers or dates), in the order of the outputs; two for a network with one output.
        Saved with the model and returned by `predict_classes`; labels in training data are looked up in them. Without
        names, labels are integers from 0.
    outputs : {"numbers", "counts", "classes", "yes_no"}, optional
        Meaning of the outputs: numbers; logarithms of expected counts (`predict` returns the counts); logits of classes
        or of yes/no answers, one output each. By default the loss of the first `Trainer` sets it. Saved with the model.
        If it is unknown, for example with parameters from PyTorch, ``model.outputs = "classes"`` sets it, once.
    feature_names : sequence of str, optional
        Names of the input columns; by default those of the first frame given to a trainer, a `Standardizer` or a
        `PiecewiseLinear`. Layers may name columns by them. Saved with the model. Later frames must have these columns,
        in any order; the columns of arrays go by position.
    target_names : sequence of str, optional
        Names of the target columns, if there are several and the model has no ``classes``; otherwise as
        `feature_names`.

    Raises
    ------
    TypeError
        If a layer is no layer, or the seed no whole number.
    ValueError
        If widths do not match, two layers have the same name, the number of classes or the meaning of the outputs does
        not fit the layers, names of columns are not those of the first layer, a `Standardizer`, or a precision is given
        with float64.
    DeviceError
        If the device is not available.

    Notes
    -----
    ``parameters()``, ``gradients()`` and ``buffers()`` return dictionaries of views: "layers.0.weight", (out, in), or
    "head.weight" for a layer named "head". Writing into a view changes the model; replacing a view by another array is
    refused. Views are NumPy arrays on the CPU and `DeviceArray` on a GPU; np.asarray returns the values of either,
    ``view[...] = values`` sets them. ``forward(x)`` computes as in training (and updates the averages of batch
    normalisation). ``backward(dout)`` then fills ``gradients()`` and returns the gradient with respect to the input.
    ``predict(x)`` is for everything else. ``flat_parameters()`` is a copy of all trainable parameters as one vector
    (P,), as in `gdcore.analysis`; ``flat_gradients()`` returns their gradients likewise; `set_flat_parameters` sets the
    parameters from such a vector.

    The attribute ``classes`` can be set at any time, ``outputs`` once. User-defined attributes, also of subclasses, are
    part of copies and pickles, but not of files.
    """

    def __init__(
        self,
        *layers: _core.Layer | Sequence[_core.Layer],
        seed: int | None = None,
        dtype: npt.DTypeLike = "float32",
        device: str = "auto",
        precision: str = "float32",
        classes: Sequence[ClassName] | None = None,
        outputs: str | None = None,
        feature_names: Sequence[str] | None = None,
        target_names: Sequence[str] | None = None,
    ) -> None:
        settings = {"dtype": dtype_name(dtype), "device": device, "precision": precision}
        checked, names = checked_layers(layers, feature_names)
        super().__init__(checked, seed=seed_or_random(seed), **settings)
        self._outputs: str | None = None
        self.classes = classes
        if outputs is not None:
            self.outputs = outputs
        self.feature_names = names
        self.target_names = target_names
        self._prepare()

    if not TYPE_CHECKING:  # type checkers say it without these

        def __call__(self, *_: object, **__: object) -> NoReturn:
            """Raise TypeError with what to call."""
            raise TypeError("a model is not called: predict(x) returns outputs, forward(x) too, for backward(dout)")

        def __getitem__(self, _: object) -> NoReturn:
            """Raise TypeError with what has the layers."""
            raise TypeError(
                "a model has no items: layers[i] is a layer; gd.Sequential(*model.layers[:-1]) is a model of some of "
                "them, with new weights: its load_parameters(model, strict=False) copies those of the model"
            )

    def __repr__(self) -> str:
        """Return the layers, one per line."""
        lines = "".join(f"  ({i}): {shown(layer, 120)}\n" for i, layer in enumerate(self.layers))
        return f"Sequential(\n{lines})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies, pickles and worker processes: separate arrays, same subclass, all attributes."""
        arguments = (type(self), self.layers, self.settings(), self.frozen(), self.copy_state())
        own = {name: value for name, value in self.__dict__.items() if name not in ("_lent", "_type")}
        return rebuilt, arguments, own  # a copied dtype would not be the one that arrays have

    def clone(
        self,
        *,
        dtype: npt.DTypeLike | None = None,
        device: str | None = None,
        precision: str | None = None,
        seed: int | None = None,
    ) -> Self:
        """Return a copy of the model, with any given settings changed.

        Parameters, buffers, frozen parameters, names of classes and columns, the subclass and user-defined attributes
        are the same; no memory is shared. ``copy.copy(model)`` is a copy with the same settings.

        Parameters
        ----------
        dtype : {"float32", "float64"} or NumPy dtype, optional
            Type of parameters and computation. From float64 to float32, values are rounded to nearest.
        device : str, optional
            "auto", "cpu" or "cuda", as in `Sequential`.
        precision : {"float32", "tf32", "bfloat16"}, optional
            As in `Sequential`; by default a copy in float64 computes in full precision.
        seed : int, optional
            Seed of dropout, of `initialize`, and of trainers of the copy. The weights are copied, not drawn.

        Raises
        ------
        TypeError
            If an argument is of another type.
        ValueError
            If an argument has another value, or a parameter or buffer is too large for `dtype`; the message names it.
        DeviceError
            If the device is not available.
        """
        settings = self.settings()
        given = {"dtype": dtype, "device": device, "precision": precision, "seed": seed}
        settings |= {name: value for name, value in given.items() if value is not None}
        settings["dtype"] = dtype_name(settings["dtype"])
        if precision is None and settings["dtype"] == "float64":
            settings["precision"] = "float32"
        with self._hold():  # another thread that trains the model waits
            flat.check_held({**self.parameters(), **self.buffers()}, settings["dtype"], "dtype")
            copied = rebuilt(type(self), self.layers, settings, self.frozen(), self.copy_state())
        own = {name: value for name, value in vars(self).items() if name not in vars(copied)}
        vars(copied).update(copy.deepcopy(own))
        return copied

    def settings(self) -> dict[str, Any]:
        """Return the arguments besides the layers: ``Sequential(*model.layers, **model.settings())`` is a new model."""
        names = ("seed", "dtype", "device", "precision", "classes", "outputs", "feature_names", "target_names")
        return {name: getattr(self, name) for name in names}

    def copy_state(self, out: State | None = None) -> State:
        """Return a copy of parameters and buffers, for `restore_state`.

        Parameters
        ----------
        out : dict, optional
            An earlier copy to overwrite and return, to save memory.

        Returns
        -------
        dict
            "parameters" and "buffers", 1-D arrays of the concatenated values of ``parameters()`` and ``buffers()``,
            frozen ones included, and "shapes", which `restore_state` compares with the network.
        """
        with self._hold():  # another thread that trains the model waits
            return flat.copy_state(self.parameters(), self.buffers(), out)

    def restore_state(self, state: Mapping[str, Array]) -> None:
        """Set parameters and buffers to a copy that `copy_state` made.

        Raises
        ------
        TypeError
            If `state` holds anything but arrays of real numbers; nothing is changed then.
        ValueError
            If the copy is of a network of another shape, or a value is impossible: too large for the model's dtype, or
            negative in a variance or deviation; nothing is changed then.
        """
        with self._hold():
            flat.restore_state(self.parameters(), self.buffers(), state, ranges_of(self.layers, self.dtype))

    def flat_parameters(self) -> Array:
        """Return a copy of the trainable parameters as one vector, as `gdcore.analysis` takes and returns it.

        Returns
        -------
        ndarray
            Shape (P,), of the model's dtype: the parameters in the order of ``parameters()``, each array row by row,
            frozen ones left out.
        """
        with self._hold():
            return flat.pack(self._trained(self.parameters()))

    def flat_gradients(self) -> Array:
        """Return a copy of the gradients of the last backward pass, in the order of `flat_parameters`: shape (P,).

        Raises
        ------
        RuntimeError
            If there are no gradients.
        """
        if not self._has_gradients:
            raise RuntimeError(
                "flat_gradients: no gradients are available; call forward(x) and backward(dout), or a step, first"
            )
        with self._hold():
            return flat.pack(self._trained(self.gradients()))

    def _trained(self, views: flat.Views) -> flat.Views:
        frozen = set(self.frozen())
        return {name: view for name, view in views.items() if name not in frozen}

    def set_flat_parameters(self, v: Data) -> None:
        """Set the trainable parameters to the values of one vector, as ``flat_parameters()`` returns it.

        Parameters
        ----------
        v : array
            Shape (P,), of any numeric type.

        Raises
        ------
        TypeError
            If `v` is no array of numbers.
        ValueError
            If `v` has another shape, or holds NaN, infinity or a value that the model's dtype cannot hold. Nothing is
            changed then.
        """
        from .io.transfer import set_vector

        with self._hold():
            set_vector(self._trained(self.parameters()), v, "v", self.dtype)


for _quick in (Sequential.predict, Sequential.forward, Sequential.backward):  # without a wrapper; see `explained`
    _quick.__qualname__ = f"Sequential.{_quick.__name__}"


@explained
def load(path: FileLike, *, device: str = "auto", precision: str = "float32") -> Sequential | Any:
    """Return the model saved in a file: architecture, parameters, running averages, scaling and class names.

    Parameters
    ----------
    path : path or binary file
        A file of ``save`` (of a `Sequential`, `Ensemble` or `TabularModel`) or of `gdcore.Checkpoint`, or a file
        object, which is read to its end.
    device : str
        Device of the model, as in `gdcore.Sequential`. Files do not contain it.
    precision : str
        Precision of its matrix products, as in `gdcore.Sequential`. Files do not contain it.

    Returns
    -------
    Sequential, Ensemble or TabularModel
        What was saved. Type checkers take it for a `Sequential`, except after ``isinstance(loaded, gd.Ensemble)``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is damaged, of a newer version, or not written by gdcore.
    """
    from .io.loading import load as loaded

    choice(device, "device", ("auto", "cpu", "cuda"))
    choice(precision, "precision", ("float32", "tf32", "bfloat16"))
    return loaded(path, device=device, precision=precision)
