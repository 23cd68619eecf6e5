"""Specs (layers, initialisers, losses, optimisers) as JSON values, for saved models and for comparing settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from .. import _core
from ..internal.checks import shown
from ..piecewise_linear import PiecewiseLinear
from ..residual import Residual
from ..schedules import Schedule
from ..standardizer import Standardizer
from .described import described, function_name

LAYERS: dict[str, type[_core.Layer]] = {cls.__name__: cls for cls in _core.Layer.__subclasses__()}
# The Python classes, which know the names of their columns, or take any number of layers.
LAYERS |= {cls.__name__: cls for cls in (Standardizer, PiecewiseLinear, Residual)}
INITIALIZERS: dict[str, type[_core.Initializer]] = {cls.__name__: cls for cls in _core.Initializer.__subclasses__()}

T = TypeVar("T")

OBJECTS = ("function", "object")  # the types of what JSON cannot hold


def encode(value: Any, name: str = "value") -> Any:
    """Return `value` (a spec, a number, a string, None, an array or a collection of them) as a JSON value.

    A spec and a schedule of gdcore become {"type": its class, field: value, ...}. A spec of a user's subclass is
    encoded as the gdcore class that it derives from. Another function or object, which JSON cannot hold, becomes its
    name and the checksum of `described`; `name` is the argument that it comes from, for messages.

    Raises
    ------
    TypeError
        If a function or object uses something that cannot be compared; see `described`.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = None if isinstance(value, tuple) else spec_class(type(value))
    if kind is not None:
        fields = {each: encode(getattr(value, each), name) for each in getattr(kind, "_saved_fields", kind._fields)}
        if fields.get("name", "") is None:  # a layer without a name, as earlier versions wrote it
            del fields["name"]
        return {"type": kind.__name__} | fields
    if isinstance(value, Schedule):
        return {"type": value.name} | {key: encode(item, name) for key, item in value.arguments.items()}
    if isinstance(value, np.ndarray):
        return encode(value.tolist(), name)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): encode(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item, name) for item in value]
    kind = OBJECTS[0] if callable(value) else OBJECTS[1]
    return {"type": kind, "name": function_name(value), "checksum": described(value, name)}


def spec_class(kind: type) -> Any:
    """Return the class that a spec is saved as: its own, or the gdcore class that a user's subclass derives from."""
    return next((c for c in kind.__mro__ if "_fields" in vars(c) and c.__module__.startswith("gdcore.")), None)


def for_layer(table: Mapping[str, T], layer: _core.Layer, number: int, call: str) -> T:
    """Return the entry for a layer of a table by names of classes; a user's subclass counts as the gdcore class.

    Raises
    ------
    ValueError
        If there is none; the message names the public `call`, the layer, and its number in the network.
    """
    name = spec_class(type(layer)).__name__
    if name not in table:
        known = ", ".join(sorted(table))
        raise ValueError(f"{call}: layers[{number}], {name}, cannot be exported; expected one of {known}")
    return table[name]


def without_values(encoded: Any) -> Any:
    """Return an encoded value in which all functions are alike, and all other objects, also those of older files."""
    return _reduced(encoded, lambda each: {"type": each["type"] if each.get("type") in OBJECTS else OBJECTS[0]})


def without_names(encoded: Any) -> Any:
    """Return an encoded value in which functions and other objects have their checksums alone."""
    return _reduced(encoded, lambda each: {name: value for name, value in each.items() if name != "name"})


def _reduced(encoded: Any, reduce: Callable[[dict[str, Any]], Any]) -> Any:
    """Return an encoded value with `reduce` applied to all functions and other objects in it."""
    if isinstance(encoded, dict):
        if _is_object(encoded):
            return reduce(encoded)
        return {name: _reduced(each, reduce) for name, each in encoded.items()}
    return [_reduced(item, reduce) for item in encoded] if isinstance(encoded, list) else encoded


def _is_object(encoded: dict[str, Any]) -> bool:
    """Return whether an encoded value stands for a function or object that JSON cannot hold."""
    kind = encoded.get("type")
    if kind in OBJECTS:
        return "checksum" in encoded
    # As older files have functions: {"function": name, "with": values}, or {"type": "partial", "function": ...}.
    return "function" in encoded and (kind == "partial" or (kind is None and isinstance(encoded["function"], str)))


def decode_layer(value: Any) -> _core.Layer:
    """Return the layer that `encode` wrote.

    Raises
    ------
    ValueError, TypeError
        If `value` is no layer of this version of gdcore.
    """
    fields = _fields(value, LAYERS)
    for name, field in fields.items():
        if isinstance(field, dict):
            fields[name] = INITIALIZERS[field["type"]](**_fields(field, INITIALIZERS))
    if isinstance(fields.get("layers"), list):  # of a block
        fields["layers"] = [decode_layer(layer) for layer in fields["layers"]]
    return LAYERS[value["type"]](**fields)


def _fields(value: Any, known: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("type") not in known:
        raise ValueError(f"got {value!r:.80}; expected one of {', '.join(known)}")
    return {str(name): field for name, field in value.items() if name != "type"}


def differences(saved: Any, present: Any, name: str = "") -> list[str]:
    """Return where two JSON values differ, each as "name: saved ..., now ..."; names of functions do not count."""
    parts: list[tuple[str, Any, Any]] | None = None
    same = saved == present
    if isinstance(saved, dict) and isinstance(present, dict) and saved.get("type") == present.get("type"):
        if saved.get("type") in OBJECTS:
            same = saved.get("checksum") == present.get("checksum")
        else:
            keys = dict.fromkeys((*saved, *present))
            parts = [(f"{name}.{key}" if name else key, saved.get(key), present.get(key)) for key in keys]
    elif isinstance(saved, list) and isinstance(present, list) and len(saved) == len(present) and _has_types(saved):
        parts = [(f"{name}[{i}]", old, new) for i, (old, new) in enumerate(zip(saved, present, strict=True))]
    if parts is not None:
        return [text for part, old, new in parts for text in differences(old, new, part)]
    return [] if same else [f"{name}: saved {as_text(saved)}, now {as_text(present)}"]


def _has_types(values: list[Any]) -> bool:
    return any(isinstance(each, dict) and "type" in each for each in values)


def as_text(value: Any) -> str:
    """Return a JSON value of `encode` as text: "SGD(lr=0.1, ...)"."""
    if isinstance(value, dict) and "type" in value:
        arguments = ", ".join(f"{name}={as_text(item)}" for name, item in value.items() if name != "type")
        return f"{value['type']}({arguments})"
    return shown(value)
