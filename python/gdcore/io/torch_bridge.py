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
from ..internal.arrays import Array, to_array
from ..internal.checks import optional_module
from ..internal.layer_names import by_layer, path_of
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


def to_torch(model: Sequential) -> dict[str, torch.Tensor]:
    """Return a state dict for a ``torch.nn.Sequential`` of the same layers; see `Sequential.to_torch`."""
    module = optional_module("torch", "to_torch", "torch")
    state: dict[str, torch.Tensor] = {}
    with model._hold():  # another thread that trains the model waits
        for index, arrays in _layers(model).items():
            for name, array in arrays.items():
                other, squared = NAMES[name]
                state[f"{index}.{other}"] = module.from_numpy(np.asarray(array) ** 2 if squared else array.copy())
            if isinstance(model.layers[index], (_core.BatchNorm, _core.Standardizer)):
                state[f"{index}.num_batches_tracked"] = module.tensor(0)
    return state


def from_torch(model: Sequential, source: Mapping[str, Any] | torch.nn.Module) -> None:
    """Set parameters from a module or a state dict; see `Sequential.from_torch`."""
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise TypeError(f"source: got {type(source).__name__}; expected a torch.nn.Module or its state dict")
    theirs = _modules(state)
    ours = _layers(model)
    if len(ours) == len(theirs) + 1 and 0 in ours and isinstance(model.layers[0], _core.Standardizer):
        del ours[0]  # the source was trained on scaled data: the scaling stays unchanged
    if len(ours) != len(theirs):
        raise ValueError(
            f"source: got {len(theirs)} layers with arrays ({', '.join(theirs) or 'none'}); expected {len(ours)}, "
            "as this network has"
        )
    ranges = ranges_of(model.layers, model.dtype)
    new: dict[str, Array] = {}
    for (index, arrays), (prefix, tensors) in zip(ours.items(), theirs.items(), strict=True):
        new |= _matched(path_of(model.layers[index], index), arrays, prefix, tensors, repr(model.layers[index]), ranges)
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
    expected = {NAMES[name][0]: (name, NAMES[name][1]) for name in arrays}
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


def _layers(model: Sequential) -> dict[int, dict[str, Array | DeviceArray]]:
    """Return the arrays of each layer that has any, by layer number and last name of the array."""
    return by_layer({**model.parameters(), **model.buffers()}, model.layers)


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
