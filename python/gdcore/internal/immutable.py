"""Immutable layers, initialisers, losses and optimisers: errors for setting attributes, copies and pickles.

The classes are written in C++ (`cpp/bindings/specs.cpp`); this file handles the subclasses that users write in Python.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from .. import _core

__all__ = ["ReadOnlyDict", "Views", "close"]


class ReadOnlyDict(dict[Any, Any]):
    """A read-only dict that belongs to an immutable object."""

    _instead: ClassVar[str] = (
        "this dict belongs to an object that stays as it was made: make another one from dict(...)"
    )

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(self._instead)

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[Any, Any]]]:
        """Support copies and pickles."""
        return type(self), (dict(self),)


class Views(ReadOnlyDict):
    """The arrays of a model by name; values can be written into the arrays, but the arrays cannot be replaced."""

    _instead = (
        "this dict shows the arrays of a model, and another array in it would not be used: write into them, "
        "views[name][...] = values; dict(views) can be changed"
    )

    def __setitem__(self, name: Any, value: Any) -> None:  # type: ignore[override]
        """Accept the same array, which ``views[name] *= 2`` assigns; refuse all others."""
        if self.get(name) is not value:
            self._refuse()

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies and pickles plain dicts, because their arrays are no views of the model."""
        return dict, (dict(self),)


def set_attribute(self: Any, name: str, value: object) -> None:
    """Set an attribute of a user's subclass; else raise AttributeError with what to do instead."""
    try:
        object.__setattr__(self, name, value)
    except AttributeError:
        kind = type(self).__name__
        what = f"{kind}.{name} cannot be set" if hasattr(self, name) else f"{kind} has no attribute {name!r}"
        arguments = ", ".join(f"{field}=..." for field in self._fields)
        message = f"{what}; it stays as it was made: make another one, {kind}({arguments})"
        raise AttributeError(message) from None


def reduced(self: Any, protocol: int) -> Any:
    """Support copies and pickles, also of subclasses with their own __init__ and attributes."""
    kind = type(self)
    own: Any = next(each for each in kind.__mro__ if "_fields" in vars(each))  # its __init__ takes the fields
    if kind.__reduce__ is not own.__reduce__:
        return self.__reduce__()  # the user's own
    fields = {name: getattr(self, name) for name in own._fields}
    return _made, (kind, own, fields), getattr(self, "__dict__", None) or None


def remade(spec: Any, **fields: Any) -> Any:
    """Return a copy of a spec with the same class and attributes, but new values of some fields."""
    make, (kind, own, given), attributes = reduced(spec, 2)
    made = make(kind, own, given | fields)
    for name, value in (attributes or {}).items():
        made.__dict__[name] = value
    return made


def _made(kind: Any, own: Any, fields: dict[str, Any]) -> Any:
    made = kind.__new__(kind)
    own.__init__(made, **fields)
    return made


def close() -> None:
    """Install both methods on the classes of the core."""
    for base in (_core.Layer, _core.Initializer, _core.Loss, _core.Optimizer):
        for name, method in (("__setattr__", set_attribute), ("__reduce_ex__", reduced)):
            setattr(base, name, method)
