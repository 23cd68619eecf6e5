"""Specs (layers, initialisers, losses, optimisers) as JSON values, for saved models and for comparing settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import _core
from ..internal.checks import shown
from ..standardizer import Standardizer

LAYERS: dict[str, type[_core.Layer]] = {cls.__name__: cls for cls in _core.Layer.__subclasses__()}
LAYERS[Standardizer.__name__] = Standardizer  # with the names of its columns
INITIALIZERS: dict[str, type[_core.Initializer]] = {cls.__name__: cls for cls in _core.Initializer.__subclasses__()}


def encode(value: Any) -> Any:
    """Return `value` (a spec, a number, a string, None, an array or a collection of them) as a JSON value.

    A spec becomes {"type": its class, field: value, ...}; a function, which JSON cannot hold, the text of its ``repr``,
    without the memory address that would differ in the next process.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    fields = getattr(type(value), "_fields", None)
    if fields is not None and not isinstance(value, tuple):
        return {"type": type(value).__name__} | {name: encode(getattr(value, name)) for name in fields}
    if isinstance(value, np.ndarray):
        return encode(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return {"function": function_name(value)}


def function_name(function: Callable[..., Any]) -> str:
    """Return a function's name with its module, or the ``repr`` of another callable."""
    name = getattr(function, "__qualname__", None)
    return (
        f"{getattr(function, '__module__', '?')}.{name}" if name is not None else repr(function).partition(" at 0x")[0]
    )


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
    return LAYERS[value["type"]](**fields)


def _fields(value: Any, known: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("type") not in known:
        raise ValueError(f"{value!r:.80} is none of {', '.join(known)}")
    return {str(name): field for name, field in value.items() if name != "type"}


def differences(saved: Any, present: Any, name: str = "") -> list[str]:
    """Return where two JSON values differ, each as "name: saved ..., now ..."."""
    if isinstance(saved, dict) and isinstance(present, dict) and saved.get("type") == present.get("type"):
        keys = dict.fromkeys((*saved, *present))
        parts = [(f"{name}.{key}" if name else key, saved.get(key), present.get(key)) for key in keys]
        return [text for part, old, new in parts for text in differences(old, new, part)]
    return [] if saved == present else [f"{name}: saved {_short(saved)}, now {_short(present)}"]


def _short(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        arguments = ", ".join(f"{name}={_short(item)}" for name, item in value.items() if name != "type")
        return f"{value['type']}({arguments})"
    return shown(value)
