"""Parameters to and from PyTorch, layer by layer, for networks of the same shape.

Names and contents differ: γ and β are called "weight" and "bias" in PyTorch's norms, and PyTorch averages σ² where
gdcore's BatchNorm averages σ by default. Layers are matched by order and shape. PyTorch is imported only to create
tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._core import DeviceArray
from ..internal.arguments import explained
from ..internal.arrays import Array, to_array
from ..internal.checks import optional_module
from ..internal.layer_names import leaves
from ..internal.ranges import out_of_range, ranges_of

if TYPE_CHECKING:
    import torch

    from ..model import Sequential

# gdcore's last name -> PyTorch's name, and whether PyTorch's array is the square of gdcore's.
NAMES = {
    "weight": ("weight", False),
    "bias": ("bias", False),
    "gamma": ("weight", False),
    "beta": ("bias", False),
    "running_mean": ("running_mean", False),
    "running_variance": ("running_var", False),
    "running_std": ("running_var", True),
    "mean": ("running_mean", False),
    "std": ("running_var", True),
}


def to_torch(model: Sequential, *, own: bool = False) -> dict[str, torch.Tensor]:
    """Return a state dict for a ``torch.nn.Sequential`` of the same layers; see `Sequential.to_torch`.

    With `own`, layers that PyTorch lacks keep the names of their arrays, as in `torch_layers`. Without it they are
    refused, and a Standardizer is a ``BatchNorm1d``.
    """
    module = optional_module("torch", "to_torch", "torch")
    state: dict[str, torch.Tensor] = {}
    with model._hold():  # another thread that trains the model waits
        for _, place, layer, arrays in layers_of(model):
            scaling, known = isinstance(layer, _core.Standardizer), arrays.keys() <= NAMES.keys()
            if not known and not own:
                raise ValueError(
                    f"to_torch: layers[{place}]: torch.nn has no {type(layer).__name__}; to_torch_module() has a module"
                )
            for name, array in arrays.items():
                other, squared = NAMES[name] if known and not (scaling and own) else (name, False)
                values = np.array(array)
                state[f"{place}.{other}"] = module.from_numpy(_square(values, place, name) if squared else values)
            if isinstance(layer, _core.BatchNorm) or (scaling and not own):
                state[f"{place}.num_batches_tracked"] = module.tensor(0)
    return state


def _square(values: Array, place: str, name: str) -> Array:
    with np.errstate(over="ignore"):
        squares: Array = np.square(values)
    if np.isinf(squares).any():
        raise ValueError(f"to_torch: layers[{place}].{name}: got {values.max():g}, whose square {values.dtype} exceeds")
    return squares


def from_torch(model: Sequential, source: Mapping[str, Any] | torch.nn.Module) -> None:
    """Set parameters from a module or a state dict; see `Sequential.from_torch`."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise TypeError(f"source: got {type(source).__name__}; expected a torch.nn.Module or its state dict")
    theirs = _modules(state)
    ours = layers_of(model)
    if len(ours) == len(theirs) + 1 and isinstance(ours[0][2], _core.Standardizer):
        del ours[0]  # the source was trained on scaled data: the scaling stays unchanged
    if len(ours) != len(theirs):
        own = ", ".join(f"{path} {type(layer).__name__}" for path, _, layer, _ in ours)
        raise ValueError(
            f"source: got {len(theirs)} layers with arrays ({', '.join(theirs) or 'none'}); expected the {len(ours)} "
            f"of this network ({own or 'none'})"
        )
    ranges = ranges_of(model.layers, model.dtype)
    new: dict[str, Array] = {}
    for (path, _, layer, arrays), (prefix, tensors) in zip(ours, theirs.items(), strict=True):
        new |= _matched(path, arrays, prefix, tensors, repr(layer), ranges)
    if new:
        model.load_parameters(new, only=list(new))


def _matched(
    layer: str,
    arrays: Mapping[str, Array | DeviceArray],
    prefix: str,
    tensors: Mapping[str, Any],
    description: str,
    ranges: Mapping[str, bool],
) -> dict[str, Array]:
    """Return a layer's arrays under gdcore's names, from the tensors of the matching module."""
    own = arrays.keys() == tensors.keys() or not arrays.keys() <= NAMES.keys()  # gdcore's names, as in `torch_layers`
    expected = {name: (name, False) for name in arrays} if own else {NAMES[n][0]: (n, NAMES[n][1]) for n in arrays}
    if set(expected) != set(tensors):
        raise ValueError(
            f"source: module {prefix!r} has {', '.join(sorted(tensors))}; expected {', '.join(sorted(expected))} for "
            f"{layer}, {description}"
        )
    new = {}
    for other, (name, squared) in expected.items():
        array = _from_tensor(tensors[other], f"source[{prefix + '.' + other!r}]")
        if array.shape != arrays[name].shape:
            raise ValueError(
                f"source[{prefix + '.' + other!r}]: got shape {array.shape}; expected {arrays[name].shape} for "
                f"{layer}.{name}"
            )
        full = f"{layer}.{name}"
        wrong = out_of_range(array, ranges[full]) if full in ranges else ""
        if wrong:
            raise ValueError(f"source[{prefix + '.' + other!r}]: {wrong}")
        new[f"{layer}.{name}"] = np.sqrt(array) if squared else array
    return new


def layers_of(model: Sequential) -> list[tuple[str, str, _core.Layer, dict[str, Array | DeviceArray]]]:
    """Return path, place and description of each layer that has arrays, and the arrays by their last names."""
    own: dict[str, dict[str, Array | DeviceArray]] = {}
    for name, array in {**model.parameters(), **model.buffers()}.items():
        path, _, last = name.rpartition(".")
        own.setdefault(path, {})[last] = array
    return [(path, place, layer, own[path]) for path, place, layer in leaves(model.layers) if path in own]


def _modules(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tensors of each module, in the order of the state dict, without batch counters."""
    modules: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        prefix, _, leaf = str(name).rpartition(".")
        if leaf != "num_batches_tracked":
            modules.setdefault(prefix, {})[leaf] = tensor
    return modules


def _from_tensor(tensor: Any, name: str) -> Array:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
            tensor = tensor.float()
    return to_array(tensor, name)


def to_torch_module(model: Sequential) -> torch.nn.Sequential:
    """Return a module that computes as `model`; see `Sequential.to_torch_module`."""
    optional_module("torch", "to_torch_module", "torch")
    from .torch_modules import to_module

    return to_module(model)


@explained
def from_torch_module(module: torch.nn.Module, **settings: Any) -> Sequential:
    """Return a model of the layers and parameters of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        A ``torch.nn.Sequential``, possibly of others, or a single layer. Its layers may be ``Linear``, ``Dropout``,
        ``BatchNorm1d``, ``LayerNorm`` of one dimension, ``Identity``, activations that gdcore has, and the modules that
        `Sequential.to_torch_module` makes. Nothing of it is changed, and no memory is shared.
    **settings
        Arguments of `Sequential` by name, such as ``outputs="classes"``. By default ``dtype`` is that of the module's
        tensors, float32 for float16, bfloat16, or none.

    Returns
    -------
    Sequential
        It predicts as the module does in evaluation mode. Parameters that do not require a gradient are frozen.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If `module` is no module, or a setting is of another type.
    ValueError
        If a layer is of another class, a subclass included, or has settings that gdcore lacks, forward hooks, or
        parameters that it shares with another; or a parameter is not finite. The message has the module's name.
    """
    optional_module("torch", "from_torch_module", "torch")
    from .torch_modules import from_module

    return from_module(module, settings)
