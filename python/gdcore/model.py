"""`Sequential`: a feed-forward network, layer after layer, with what a user does to it besides training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy.typing as npt

from . import _core
from .internal import flat
from .internal.arguments import explained
from .internal.arrays import Array, Data
from .internal.attributes import Open
from .internal.checks import choice, seed_or_random, shown
from .internal.labels import ClassName
from .internal.ranges import ranges_of
from .network.freezing import Freezing
from .network.layers import checked_layers, dtype_name, rebuilt
from .network.prediction import Predictor
from .standardizer import Standardizer

if TYPE_CHECKING:
    import torch

    from .io.destination import FileLike

__all__ = ["Sequential", "load"]

State: TypeAlias = dict[str, Array]


@explained
class Sequential(Open, Predictor, Freezing):
    """A network of layers, each fed by the one before.

    Parameters
    ----------
    *layers : Layer
        The layers in order. The sizes must fit: Dense(784, 256), ReLU(), Dense(256, 10). A fitted `Standardizer` may be
        the first, or stand before another `Dense`; behind the last one it is refused. The model keeps copies of them.
        Layers with a name (``Dense(256, 10, name="head")``) need one of their own.
    seed : int, optional
        Seed of the initial weights and of dropout, 0 to 2⁶³-1; drawn at random when left out (``model.seed`` tells it).
    dtype : {"float32", "float64"} or NumPy dtype
        Type of parameters and computation.
    device : str
        "auto" (the best there is), "cpu", or "cuda".
    precision : {"float32", "tf32", "bfloat16"}
        What the products of `Dense` layers compute in on a GPU, for models in float32: "tf32" and "bfloat16" may round
        the factors to 10 and 7 binary digits and are faster; parameters and sums stay float32. The CPU always computes
        in full. Copies keep it; files do not hold it.
    classes : sequence, optional
        Names of the classes (text, numbers or dates), in the order of the outputs; two for a network of one output.
        Saved with the model, returned by `predict_classes`; labels in training data are looked up in them. Without
        names, labels are the numbers from 0.
    outputs : {"numbers", "classes", "yes_no"}, optional
        What the outputs mean: numbers; logits of classes, one output each; or logits of yes/no answers, one output
        each. The loss of the first `Trainer` says it when left out. Saved with the model; where nothing is known, as
        for parameters from PyTorch, ``model.outputs = "classes"`` says it, once.
    feature_names : sequence of str, optional
        Names of the input columns; taken from the first frame that a trainer or a `Standardizer` sees when left out.
        Saved with the model. Frames given later must have these columns, in any order; arrays go by position.
    target_names : sequence of str, optional
        Names of the columns of targets, of which there are several, where the model has no ``classes``; likewise.

    Raises
    ------
    TypeError
        If a layer is no layer, or the seed no whole number.
    ValueError
        If sizes do not fit, two layers have one name, the number of classes or what the outputs mean does not fit them,
        names of columns are not those of the `Standardizer` that is the first layer, or a precision is given with
        float64.
    DeviceError
        If the device is not there.

    Notes
    -----
    ``parameters()``, ``gradients()`` and ``buffers()`` are dictionaries of views ("layers.0.weight", (out, in); of a
    layer with a name "head.weight"): writing into one changes the model; another array in its place is refused. They
    are NumPy arrays on the CPU and `DeviceArray` on a GPU; np.asarray gives the numbers of either, ``view[...] =
    values`` sets them. ``forward(x)`` computes as in training (and moves the averages of batch normalisation),
    ``backward(dout)`` then fills ``gradients()`` and returns the gradient with respect to the input; ``predict(x)`` is
    for everything else. ``flat_parameters()`` is a copy of all parameters that train as one vector (P,), the one that
    `gdcore.analysis` takes and returns, ``flat_gradients()`` that of their gradients, and `set_flat_parameters` its way
    back.

    Of the attributes, ``classes`` can be set at any time and ``outputs`` once. Attributes of your own, and those of
    subclasses, go into copies and pickles (not into files).
    """

    def __init__(
        self,
        *layers: _core.Layer,
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
        super().__init__(checked_layers(layers), seed=seed_or_random(seed), **settings)
        self._outputs: str | None = None
        self.classes = classes
        if outputs is not None:
            self.outputs = outputs
        first = layers[0]
        if feature_names is None and isinstance(first, Standardizer):
            feature_names = first.feature_names
        self.feature_names = feature_names
        self.target_names = target_names
        self._prepare()

    def __repr__(self) -> str:
        """Return the layers, one a line."""
        lines = "".join(f"  ({i}): {shown(layer, 120)}\n" for i, layer in enumerate(self.layers))
        return f"Sequential(\n{lines})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies, pickles and worker processes: arrays of its own, the subclass and all attributes."""
        arguments = (type(self), self.layers, self.settings(), self.frozen(), self.copy_state())
        return rebuilt, arguments, {name: value for name, value in self.__dict__.items() if name != "_lent"}

    def clone(
        self,
        *,
        dtype: npt.DTypeLike | None = None,
        device: str | None = None,
        precision: str | None = None,
        seed: int | None = None,
    ) -> Self:
        """Return a copy of the model, with other settings where they are given.

        Parameters, buffers, frozen parameters, names of classes and columns, the subclass and attributes of your own
        are the same; no memory is shared. ``copy.copy(model)`` is a copy with the same settings.

        Parameters
        ----------
        dtype : {"float32", "float64"} or NumPy dtype, optional
            Type of parameters and computation. From float64 to float32 the numbers are rounded to the nearest.
        device : str, optional
            "auto", "cpu" or "cuda", as in `Sequential`.
        precision : {"float32", "tf32", "bfloat16"}, optional
            As in `Sequential`; a copy in float64 computes in full when left out.
        seed : int, optional
            Of dropout, of `initialize`, and of trainers made for the copy. The weights are copied, not drawn.

        Raises
        ------
        TypeError
            If an argument is of another kind.
        ValueError
            If an argument is none of these, or a number is too large for `dtype`; the message names it.
        DeviceError
            If the device is not there.
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
        """Return the arguments beside the layers: ``Sequential(*model.layers, **model.settings())`` is another one."""
        names = ("seed", "dtype", "device", "precision", "classes", "outputs", "feature_names", "target_names")
        return {name: getattr(self, name) for name in names}

    def copy_state(self, out: State | None = None) -> State:
        """Return a copy of parameters and buffers, for `restore_state`.

        Parameters
        ----------
        out : dict, optional
            An earlier copy to overwrite and return, which saves the memory of a new one.

        Returns
        -------
        dict
            "parameters" and "buffers", 1-D arrays of the numbers of ``parameters()`` and ``buffers()`` one after the
            other, frozen ones included, and "shapes", by which `restore_state` knows the network.
        """
        with self._hold():  # another thread that trains the model waits
            return flat.copy_state(self.parameters(), self.buffers(), out)

    def restore_state(self, state: Mapping[str, Array]) -> None:
        """Set parameters and buffers to a copy that `copy_state` made.

        Raises
        ------
        TypeError
            If it holds anything but arrays of real numbers; nothing is changed then.
        ValueError
            If the copy is of a network of another shape, or a number cannot be: too large for the model's dtype, or
            negative in a variance or deviation; nothing is changed then.
        """
        with self._hold():
            flat.restore_state(self.parameters(), self.buffers(), state, ranges_of(self.layers, self.dtype))

    def flat_parameters(self) -> Array:
        """Return a copy of the parameters that train as one vector, the one that `gdcore.analysis` takes and returns.

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
            If there are none.
        """
        if not self._has_gradients:
            raise RuntimeError(
                "flat_gradients: there are no gradients yet; expected forward(x) and backward(dout), or a step, before"
            )
        with self._hold():
            return flat.pack(self._trained(self.gradients()))

    def _trained(self, views: flat.Views) -> flat.Views:
        frozen = set(self.frozen())
        return {name: view for name, view in views.items() if name not in frozen}

    def set_flat_parameters(self, v: Data) -> None:
        """Set the parameters that train to the numbers of one vector, as ``flat_parameters()`` returns it.

        Parameters
        ----------
        v : array
            Shape (P,), of any type of numbers.

        Raises
        ------
        TypeError
            If it is no array of numbers.
        ValueError
            If it has another shape, or holds NaN, infinity or a number that the model's dtype cannot hold. Nothing is
            changed then.
        """
        from .io.transfer import set_vector

        with self._hold():
            set_vector(self._trained(self.parameters()), v, "v", self.dtype)

    def save(self, path: FileLike) -> None:
        """Write the model to a safetensors file: architecture, parameters, averages, scaling and class names.

        An existing file is replaced only once the new one is safely on the disk; its mode, owner and attributes stay.
        A pipe or a device is written to. While another thread trains the model, saving waits for the end of a step, and
        training for the end of saving.

        Parameters
        ----------
        path : path or binary file
            The file, whose folder must exist; or an object to write to, such as ``io.BytesIO()`` or one opened by
            ``open(path, "wb")``.

        Raises
        ------
        OSError
            If it cannot be written; an old file is then untouched.
        ValueError
            If it could not be read again, as for a deviation of 0 in ``buffers()``; an old file is then untouched.

        Notes
        -----
        A layer of a subclass of your own is saved as the class of gdcore that it is made from.
        """
        from .io.saving import save_model

        save_model(self, path)

    def load_parameters(
        self,
        source: Sequential | Mapping[str, Data] | FileLike,
        *,
        prefix: str = "",
        rename: Mapping[str, str] | Callable[[str], str] | None = None,
        only: Iterable[str] | None = None,
        strict: bool = True,
    ) -> list[str]:
        """Take parameters (and buffers) by name, all or part of them: for transfer from another network.

        Parameters
        ----------
        source : Sequential, mapping, path or binary file
            Another model, arrays by name, or a safetensors file, gdcore's or not; float16 and bfloat16 are taken too.
        prefix : str
            Take only the source's names that begin with it, and drop it from them.
        rename : mapping or function, optional
            New names, after `prefix`: {"layers.0": "head"} renames that layer, a function is asked for every name.
            Names of the source go as they are written: "layers.3.weight" is not taken for that of a layer "head".
        only : iterable of str, optional
            Layers ("head", "layers.0") or parameters of this network to be set; the others stay.
        strict : bool
            True: the names must be exactly those of this network (or of `only`) and the shapes equal. False: what fits
            in name and shape is taken, the rest is left.

        Returns
        -------
        list of str
            The names that were set.

        Raises
        ------
        ValueError
            If a name or shape does not fit, a number is not finite, too large for the model's dtype, or negative in a
            variance or deviation, or nothing fits. Nothing is changed then.
        TypeError
            If an argument, or one of the arrays, is of another kind.
        """
        from .io.transfer import load_parameters

        return load_parameters(self, source, prefix=prefix, rename=rename, only=only, strict=strict)

    def to_torch(self) -> dict[str, torch.Tensor]:
        """Return the parameters as a state dict for a ``torch.nn.Sequential`` of the same layers.

        Returns
        -------
        dict
            CPU tensors with memory of their own: "0.weight" and so on, by the layers' numbers; γ and β are "weight" and
            "bias", running averages "running_mean" and "running_var", and a Standardizer stands as
            ``BatchNorm1d(features, eps=0, affine=False)``.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        """
        from .io.torch_bridge import to_torch

        return to_torch(self)

    def from_torch(self, source: Mapping[str, Any] | torch.nn.Module) -> None:
        """Take the parameters of a PyTorch module, or of its state dict, of the same shape of network.

        Parameters
        ----------
        source : state dict or module
            Layers are matched by their order and shapes, whatever the modules are called.

        Raises
        ------
        ValueError
            If a layer does not fit; nothing is changed then.
        """
        from .io.torch_bridge import from_torch

        from_torch(self, source)

    def summary(self) -> str:
        """Return a table of the layers: what each one puts out, its parameters, and what rides in its pass."""
        from .network.summary import summary

        return summary(self)


for _quick in (Sequential.predict, Sequential.forward, Sequential.backward):  # without a wrapper; see `explained`
    _quick.__qualname__ = f"Sequential.{_quick.__name__}"


@explained
def load(path: FileLike, *, device: str = "auto", precision: str = "float32") -> Sequential:
    """Return the model saved in a file: architecture, parameters, running averages, scaling and class names.

    Parameters
    ----------
    path : path or binary file
        A file written by ``model.save`` or by `gdcore.Checkpoint`, or an object to read one from, to its end.
    device : str
        Where the model shall live, as in `gdcore.Sequential`.
    precision : str
        What its products shall compute in on a GPU, as there; a file says neither.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is damaged, of a newer version, or not gdcore's.
    """
    from .io.destination import label
    from .io.saving import model_from, read_file

    choice(device, "device", ("auto", "cpu", "cuda"))
    choice(precision, "precision", ("float32", "tf32", "bfloat16"))
    tensors, metadata = read_file(path)
    return model_from(tensors, metadata, label(path, "path"), device=device, precision=precision)
