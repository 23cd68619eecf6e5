"""Specs (layers, initialisers, losses, optimisers) as JSON values, for saved models and for comparing settings."""

from __future__ import annotations

import contextlib
import functools
import re
import types
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from .. import _core
from ..internal.checks import shown
from ..piecewise_linear import PiecewiseLinear
from ..residual import Residual
from ..schedules import Schedule
from ..standardizer import Standardizer

LAYERS: dict[str, type[_core.Layer]] = {cls.__name__: cls for cls in _core.Layer.__subclasses__()}
# The Python classes, which know the names of their columns, or take any number of layers.
LAYERS |= {cls.__name__: cls for cls in (Standardizer, PiecewiseLinear, Residual)}
INITIALIZERS: dict[str, type[_core.Initializer]] = {cls.__name__: cls for cls in _core.Initializer.__subclasses__()}

T = TypeVar("T")

DEEPEST = 5  # nesting depth of functions whose values are encoded


def encode(value: Any) -> Any:
    """Return `value` (a spec, a number, a string, None, an array or a collection of them) as a JSON value.

    A spec, a schedule of gdcore and a `functools.partial` become {"type": its class, field: value, ...}. A spec of a
    user's subclass is encoded as the gdcore class that it derives from. Another function, which JSON cannot hold,
    becomes its name, with the plain values that it uses.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = None if isinstance(value, tuple) else spec_class(type(value))
    if kind is not None:
        fields = {name: encode(getattr(value, name)) for name in getattr(kind, "_saved_fields", kind._fields)}
        if fields.get("name", "") is None:  # a layer without a name, as earlier versions wrote it
            del fields["name"]
        return {"type": kind.__name__} | fields
    if isinstance(value, np.ndarray):
        return encode(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return _function(value, ())


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


def _function(value: Any, inside: tuple[int, ...]) -> Any:
    """Return a function or another callable object as a JSON value; `inside` has the ids of the enclosing ones."""
    inside = (*inside, id(value))
    if isinstance(value, Schedule):
        return {"type": value.name} | {name: _part(item, inside) for name, item in value.arguments.items()}
    if isinstance(value, functools.partial):
        arguments: dict[str, Any] = {"arguments": [_part(item, inside) for item in value.args]}
        arguments["keywords"] = {name: _part(item, inside) for name, item in value.keywords.items()}
        return {"type": "partial", "function": _part(value.func, inside), **arguments}
    values = {name: _part(item, inside) for name, item in _values(value).items() if _is_plain(item)}
    return {"function": function_name(value)} | ({"with": values} if values else {})


def _part(value: Any, inside: tuple[int, ...]) -> Any:
    if not callable(value):
        return encode(value)
    return _function(value, inside) if id(value) not in inside and len(inside) < DEEPEST else function_name(value)


def without_values(encoded: Any) -> Any:
    """Return an encoded value with functions reduced to their names, for comparing what functions return."""
    if isinstance(encoded, dict):
        left = {name: without_values(item) for name, item in encoded.items()}
        return {"function": left["function"]} if "type" not in left and "function" in left else left
    return [without_values(item) for item in encoded] if isinstance(encoded, list) else encoded


def _values(function: Any) -> dict[str, Any]:
    """Return the values bound to a function: its object, its defaults, its closure variables."""
    if isinstance(function, types.MethodType):
        return {"self": function_name(function.__self__), **_values(function.__func__)}
    if not isinstance(function, types.FunctionType):
        return {}
    code, values = function.__code__, dict(function.__kwdefaults__ or {})
    defaults = function.__defaults__ or ()
    values |= dict(zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True))
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the variable has no value yet
            values[name] = cell.cell_contents
    return values


def _is_plain(value: Any) -> bool:
    functions = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial, Schedule)
    return value is None or isinstance(value, (bool, int, float, str, np.generic, *functions))


def function_name(function: Any) -> str:
    """Return a function's qualified name with its module, or the ``repr`` of another object without its address."""
    name = getattr(function, "__qualname__", None)
    if name is not None:
        return f"{getattr(function, '__module__', '?')}.{name}"
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(function))


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
    """Return where two JSON values differ, each as "name: saved ..., now ..."."""
    if isinstance(saved, dict) and isinstance(present, dict) and saved.get("type") == present.get("type"):
        keys = dict.fromkeys((*saved, *present))
        parts = [(f"{name}.{key}" if name else key, saved.get(key), present.get(key)) for key in keys]
        return [text for part, old, new in parts for text in differences(old, new, part)]
    return [] if saved == present else [f"{name}: saved {as_text(saved)}, now {as_text(present)}"]


def as_text(value: Any) -> str:
    """Return a JSON value of `encode` as text: "SGD(lr=0.1, ...)"."""
    if isinstance(value, dict) and "type" in value:
        arguments = ", ".join(f"{name}={as_text(item)}" for name, item in value.items() if name != "type")
        return f"{value['type']}({arguments})"
    return shown(value)
