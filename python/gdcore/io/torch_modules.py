"""Modules of PyTorch for the layers of gdcore, and the way back; imports torch.

PyTorch and gdcore compute the same in prediction. In training BatchNorm keeps other averages: PyTorch those of the
unbiased variance, gdcore those of the deviation, or of the biased variance with ``running="variance"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .. import _core
from .. import standardizer as scaling
from ..model import Sequential
from .specs import LAYERS as KINDS
from .specs import for_layer
from .torch_bridge import NAMES, from_torch, layers_of, to_torch
from .torch_layers import Embedding, Periodic, PiecewiseLinear, Residual, Scale, Standardizer

__all__ = ["from_module", "to_module"]

EXACT = 20.0  # above it log(1 + eˣ) and x differ by less than 2.1e-9


# ---- From gdcore to PyTorch -----------------------------------------------------------------------------------------
def _batch_norm(layer: Any) -> nn.Module:
    momentum = round(1 - layer.decay, 15)  # 0.1 for 0.9
    return nn.BatchNorm1d(layer.features, eps=layer.eps, momentum=momentum, affine=layer.affine)


MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "BatchNorm": _batch_norm,
    "Dense": lambda layer: nn.Linear(layer.in_features, layer.out_features, bias=layer.bias),
    "Dropout": lambda layer: nn.Dropout(layer.p),
    "ELU": lambda layer: nn.ELU(layer.alpha),
    "GELU": lambda layer: nn.GELU(approximate=layer.approximate),
    "LayerNorm": lambda layer: nn.LayerNorm(layer.features, eps=layer.eps, elementwise_affine=layer.affine),
    "LeakyReLU": lambda layer: nn.LeakyReLU(layer.negative_slope),
    "Mish": lambda layer: nn.Mish(),
    "ReLU": lambda layer: nn.ReLU(),
    "SELU": lambda layer: nn.SELU(),
    "SiLU": lambda layer: nn.SiLU(),
    "Sigmoid": lambda layer: nn.Sigmoid(),
    "Softplus": lambda layer: nn.Softplus(threshold=40.0),  # in float64 too, log(1 + e⁴⁰) = 40
    "Tanh": lambda layer: nn.Tanh(),
}
OWN: dict[str, type[Any]] = {
    each.__name__: each for each in (Embedding, Periodic, PiecewiseLinear, Residual, Scale, Standardizer)
}


def to_module(model: Sequential) -> nn.Sequential:
    """Return a module that computes as `model`; see `gdcore.Sequential.to_torch_module`."""
    with model._hold():  # another thread that trains the model waits
        model.check_scaling(model.feature_names)
        state, frozen, arrays = to_torch(model, own=True), set(model.frozen()), layers_of(model)
        shapes = {place: {name: array.shape for name, array in own.items()} for _, place, _, own in arrays}
        with torch.device("meta"):  # no initial values are drawn
            module = nn.Sequential(*_modules(model.layers, "", shapes))
    module.load_state_dict(state, assign=True)
    for path, place, _, own in arrays:
        part = module.get_submodule(place)
        for name in own:
            if f"{path}.{name}" in frozen:
                part.get_parameter(name if type(part) in OWN.values() else NAMES[name][0]).requires_grad_(False)
    return module.eval()


def _modules(layers: Iterable[_core.Layer], place: str, shapes: Mapping[str, Any]) -> Iterator[nn.Module]:
    """Yield the modules of layers; `place` is that of the block around them, with a dot."""
    for i, layer in enumerate(layers):
        make: Any = for_layer({**MODULES, **OWN}, layer, i, "to_torch_module")
        if make is Residual:
            inside: Any = layer
            yield Residual(*_modules(inside.layers, f"{place}{i}.", shapes))
        elif make in OWN.values():
            yield make(layer, shapes.get(f"{place}{i}", {}))
        else:
            yield make(layer)


# ---- From PyTorch to gdcore -----------------------------------------------------------------------------------------
def _from_batch_norm(module: Any) -> _core.Layer:
    if module.running_mean is None:
        raise ValueError("got track_running_stats=False; expected running averages, which predictions need")
    if module.eps == 0 and not module.affine:  # as in the state dict of `Sequential.to_torch`
        return scaling.Standardizer(mean=module.running_mean.tolist(), std=module.running_var.sqrt().tolist())
    if module.momentum is None:
        raise ValueError("got momentum=None, a cumulative average; expected a number")
    decay = 1 - module.momentum
    return _core.BatchNorm(module.num_features, decay, eps=module.eps, running="variance", affine=module.affine)


def _from_layer_norm(module: Any) -> dict[str, Any]:
    if len(module.normalized_shape) != 1 or (module.weight is None) != (module.bias is None):
        raise ValueError("expected one dimension, and weight and bias, or neither")
    return {"features": module.normalized_shape[0], "eps": module.eps, "affine": module.weight is not None}


def _from_softplus(module: Any) -> dict[str, Any]:
    if module.beta != 1 or module.threshold < EXACT:
        raise ValueError(f"expected beta=1, and a threshold of at least {EXACT:g}")
    return {}


def _from_linear(module: Any) -> dict[str, Any]:
    return {
        "in_features": module.in_features,
        "out_features": module.out_features,
        "bias": module.bias is not None,
    }


def _plain(module: Any) -> dict[str, Any]:
    return {}


# The name of the layer for a module, and a function that returns the layer's arguments.
LAYERS: dict[type[nn.Module], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    nn.Dropout: ("Dropout", lambda module: {"p": module.p}),
    nn.ELU: ("ELU", lambda module: {"alpha": module.alpha}),
    nn.GELU: ("GELU", lambda module: {"approximate": module.approximate}),
    nn.LayerNorm: ("LayerNorm", _from_layer_norm),
    nn.LeakyReLU: ("LeakyReLU", lambda module: {"negative_slope": module.negative_slope}),
    nn.Linear: ("Dense", _from_linear),
    nn.Mish: ("Mish", _plain),
    nn.ReLU: ("ReLU", _plain),
    nn.SELU: ("SELU", _plain),
    nn.SiLU: ("SiLU", _plain),
    nn.Sigmoid: ("Sigmoid", _plain),
    nn.Softplus: ("Softplus", _from_softplus),
    nn.Tanh: ("Tanh", _plain),
}


def from_module(module: Any, settings: dict[str, Any]) -> Sequential:
    """Return a model that computes as `module`; see `gdcore.from_torch_module`."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: got {type(module).__name__}; expected a torch.nn.Sequential, or one of its layers")
    parts: dict[str, nn.Module] = {}
    layers = list(_layers(module, "", parts))
    if not layers:
        raise ValueError("module: got no layers; expected at least one")
    state: dict[str, torch.Tensor] = {}
    seen: dict[int, str] = {}  # place of each parameter
    for place, part in parts.items():
        state |= {f"{place}.{name}".lstrip("."): tensor for name, tensor in part.state_dict().items()}
        for name, parameter in part.named_parameters():
            if seen.setdefault(id(parameter), place) != place:
                first = _label(seen[id(parameter)])
                raise ValueError(f"{_label(place)}: shares its {name} with {first}; expected layers of their own")
    model = Sequential(*layers, **({"dtype": _dtype(state)} | settings))
    try:
        from_torch(model, state)
    except ValueError as error:
        raise ValueError(f"module{str(error).removeprefix('source')}") from error
    with_arrays = [part for part in parts.values() if part.state_dict()]
    for (path, _, _, own), part in zip(layers_of(model), with_arrays, strict=True):
        trained = dict(part.named_parameters())
        fixed = [name for name in own if not _trained(trained, name)]
        model.set_all_frozen([f"{path}.{name}" for name in fixed], True)
    return model


def _trained(parameters: Mapping[str, nn.Parameter], name: str) -> bool:
    """Return whether an array of a layer, if it is a parameter, requires a gradient in the module."""
    other = name if name in parameters else NAMES.get(name, (name,))[0]
    return other not in parameters or bool(parameters[other].requires_grad)


def _label(place: str) -> str:
    return f"module[{place!r}]" if place else "module"


def _layers(module: nn.Module, place: str, parts: dict[str, nn.Module]) -> Iterator[_core.Layer]:
    """Yield the layers of a module in order; its innermost modules, but those that do nothing, are added to `parts`."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{_label(place)}: has forward hooks, which gdcore does not call; expected none")
    if type(module).forward in (nn.Sequential.forward, Residual.forward):
        children = module._modules.items()  # named_children leaves repetitions out
        inside = [layer for name, part in children for layer in _layers(part, f"{place}.{name}".lstrip("."), parts)]
        yield from inside if type(module) is not Residual else [KINDS["Residual"](*inside)]
    elif type(module) is not nn.Identity:
        parts[place] = module
        yield _layer(module, _label(place))


def _layer(module: Any, label: str) -> _core.Layer:
    """Return the layer for an innermost module; a subclass may compute something else, and is refused."""
    if type(module) in OWN.values():
        layer: _core.Layer = module.layer
        return layer
    name, arguments = LAYERS.get(type(module), ("", _plain))
    if name not in KINDS and type(module) is not nn.BatchNorm1d:
        known = sorted(kind.__name__ for kind, (own, _) in LAYERS.items() if own in KINDS)
        raise ValueError(
            f"{label}: got {type(module).__name__}; expected one of BatchNorm1d, {', '.join(known)}, Identity, "
            "Sequential, or a module of to_torch_module"
        )
    try:
        return KINDS[name](**arguments(module)) if name else _from_batch_norm(module)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label}: {module}: {error}") from error


def _dtype(state: dict[str, torch.Tensor]) -> str:
    """Return the model's dtype: float64 for float64, float32 for narrower types, which it contains."""
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    if len(kinds) > 1:
        raise ValueError(f"module: got tensors of {' and '.join(sorted(kinds))}; expected one dtype: module.float()")
    return "float64" if kinds == {"float64"} else "float32"
