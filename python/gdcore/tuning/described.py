"""Objects and functions as JSON values, to see whether a run of an earlier time had the same."""

from __future__ import annotations

import functools
import inspect
import types
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from ..io import specs

__all__ = ["described"]

DEEPEST = 16  # objects within each other that are looked at
FUNCTIONS = 4  # of functions further within, the variables that they use are not looked at


def described(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Return a JSON value that differs where `value` would act otherwise.

    Of a function it has the code, defaults and the variables that it uses; of an object the class's name and the
    attributes. Not looked at are the methods of classes, what modules contain, and what lies further within than
    DEEPEST and FUNCTIONS say: values that differ there alone have the same description.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if id(value) in within or len(within) == DEEPEST or isinstance(value, types.ModuleType):
        return type(value).__name__
    inner = (*within, id(value))
    if isinstance(value, (np.ndarray, np.generic)):
        data = np.ascontiguousarray(value.astype(str) if value.dtype == object else value).tobytes()
        return [str(value.dtype), list(value.shape), zlib.crc32(data)]
    if isinstance(value, (set, frozenset)):
        return sorted((described(each, inner) for each in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [described(each, inner) for each in value]
    if isinstance(value, Mapping):
        return [[described(name, inner), described(each, inner)] for name, each in value.items()]
    if isinstance(value, functools.partial):
        return [described(part, inner) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.MethodType):
        return [described(value.__func__, inner), described(value.__self__, inner)]
    if isinstance(value, types.FunctionType):
        return _function(value, inner)
    if isinstance(value, (_core.Layer, _core.Loss, _core.Optimizer, _core.Initializer)):
        return specs.encode(value)
    if isinstance(value, type) or (callable(value) and not hasattr(value, "__dict__")):
        return specs.function_name(value)
    state = object.__getstate__(value)  # a dictionary, one of slots beside it, or nothing
    called = inspect.getattr_static(type(value), "__call__", None)
    return [specs.function_name(type(value)), described(state, inner), described(called, inner)]


def _function(function: types.FunctionType, inner: tuple[int, ...]) -> Any:
    """Return what a function does: its code, and the values that it refers to."""
    if len(inner) > FUNCTIONS:
        return [function.__qualname__, _code(function.__code__)]
    used = inspect.getclosurevars(function)
    values = [function.__defaults__, function.__kwdefaults__, used.nonlocals, used.globals]
    return [function.__qualname__, _code(function.__code__), *(described(each, inner) for each in values)]


def _code(code: types.CodeType) -> list[Any]:
    constants = [_code(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return [zlib.crc32(code.co_code), list(code.co_names), constants]
