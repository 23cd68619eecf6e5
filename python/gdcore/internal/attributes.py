"""Checked attributes: an attribute that can be set takes effect; all others are refused with what to do instead.

`__slots__` refuses unknown names, `Fixed` refuses to set a read-only attribute, `Setting` refuses invalid values, and
`Closed` writes the error messages. A user's subclass has its own attributes as usual, and copies keep them.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar, overload

__all__ = [
    "Closed",
    "Fixed",
    "Hinted",
    "Made",
    "Setting",
    "attributes_of",
    "refuse_mistaken",
    "refused",
    "restore_attributes",
    "settable",
]

T = TypeVar("T")


class _Described(Generic[T]):
    """An attribute kept in the slot of the same name with a leading underscore."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._slot = name, f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value: T = getattr(instance, self._slot)
        return value


class Fixed(_Described[T]):
    """A read-only attribute.

    Parameters
    ----------
    doc : str
        Its docstring.
    instead : str
        What to do instead of setting it, for the message.
    """

    def __init__(self, doc: str, instead: str) -> None:
        super().__init__(doc)
        self._instead = instead

    def __set__(self, instance: object, value: object) -> NoReturn:
        """Raise AttributeError with what to do instead."""
        raise AttributeError(f"{type(instance).__name__}.{self._name} cannot be set: {self._instead}")


class Setting(_Described[T]):
    """An attribute that may be set at any time.

    Parameters
    ----------
    doc : str
        Its docstring.
    check : function
        ``check(value, name)`` returns the value to keep, or raises.
    """

    def __init__(self, doc: str, check: Callable[[Any, str], T]) -> None:
        super().__init__(doc)
        self._check = check

    def __set__(self, instance: object, value: Any) -> None:
        """Check the value and keep it."""
        setattr(instance, self._slot, self._check(value, self._name))


class Closed:
    """A base class of objects that refuse unknown attributes."""

    __slots__ = ()

    if not TYPE_CHECKING:  # with a __setattr__, type checkers would accept any attribute

        def __setattr__(self, name: str, value: object) -> None:
            """Set an attribute; raise AttributeError for one that cannot be set."""
            try:
                super().__setattr__(name, value)
            except AttributeError:
                if isinstance(getattr(type(self), name, None), _Described):
                    raise
                raise refused(self, name) from None

    def __copy__(self) -> Self:
        """Return a copy that shares nothing with the original."""
        return copy.deepcopy(self)


class Open(Closed):
    """A base class of objects that take the user's own attributes, but refuse names that look like mistakes."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            """Set an attribute.

            Raises
            ------
            AttributeError
                If it cannot be set, is misspelt, or is an attribute of other libraries only.
            """
            if _is_ours(type(self)) and not name.startswith("_"):
                refuse_mistaken(self, name)
            super().__setattr__(name, value)


class Hinted:
    """A base class of objects that say what to use for an attribute that only other libraries have."""

    __slots__ = ()

    if not TYPE_CHECKING:  # with a __getattr__, type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError for an attribute that is not there."""
            kind = type(self)
            if not hasattr(kind, name):
                from .foreign_names import instead  # here, to keep `import gdcore` fast

                hint = instead(kind, name)
                if hint:
                    raise AttributeError(f"{kind.__name__} has no attribute {name!r}; instead: {hint}")
            return object.__getattribute__(self, name)  # raises again what Python, or a property, has raised


class Made(Closed):
    """A base class of objects whose public attributes, ``_made``, are set once, at construction."""

    __slots__ = ()
    _made: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:  # with a __setattr__, type checkers would accept any attribute

        def __setattr__(self, name: str, value: object) -> None:
            """Set an attribute for the first time, or one of a user's subclass; else raise AttributeError."""
            own = name.startswith("_") or (name in self._made and name not in vars(self))
            if own or not (name in self._made or hasattr(type(self), name) or _is_ours(type(self))):
                return super().__setattr__(name, value)
            raise refused(self, name)


def refused(owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that cannot be set: whether it exists, and which ones can be set."""
    kind = type(owner)
    names = settable(kind)
    listed = f"what can be set: {', '.join(names)}" if names else "nothing of it can be set; make another one"
    if hasattr(owner, name):
        return AttributeError(f"{kind.__name__}.{name} cannot be set; {listed}")
    close = _similar(kind, name, 0.6)
    meant = f" (is {close[0]!r} meant?)" if close else ""
    return AttributeError(f"{kind.__name__} has no attribute {name!r}{meant}; {listed}")


def refuse_mistaken(owner: object, name: str) -> None:
    """Raise AttributeError for the name of a method, a misspelt name, or a name with a meaning in other libraries.

    `owner` takes the user's own attributes; these names are refused because setting them would have no effect.
    """
    present = getattr(type(owner), name, None)
    if callable(present):
        raise refused(owner, name)
    if present is not None:
        return
    from .foreign_names import STATE  # here, to keep `import gdcore` fast

    if name in STATE:
        raise AttributeError(f"{type(owner).__name__} has no attribute {name!r}; instead: {STATE[name]}")
    if _similar(type(owner), name, 0.8):
        raise refused(owner, name)


def _is_ours(kind: type) -> bool:
    """Return whether a class is the library's own, not a user's subclass."""
    return kind.__module__.partition(".")[0] == "gdcore"


def _similar(kind: type, name: str, least: float) -> list[str]:
    """Return the public attribute with the name closest to `name`, if one is similar enough."""
    import difflib  # here, to keep `import gdcore` fast

    return difflib.get_close_matches(name, [each for each in dir(kind) if not each.startswith("_")], 1, least)


def settable(kind: type) -> list[str]:
    """Return the public attributes of a class that can be set on its objects."""
    public = {name: getattr(kind, name, None) for name in dir(kind) if not name.startswith("_")}
    return [
        name
        for name, value in public.items()
        if isinstance(value, (Setting, types.MemberDescriptorType))
        or (isinstance(value, property) and value.fset is not None)
    ]


def attributes_of(owner: object, *without: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the attributes of an object with slots, for `restore_attributes`: its ``__dict__``, and the slots."""
    state: tuple[dict[str, Any] | None, dict[str, Any]] = object.__getstate__(owner)  # type: ignore[assignment]
    return state[0], {name: value for name, value in state[1].items() if name not in without}


def restore_attributes(owner: object, state: Any) -> None:
    """Give an object the attributes that ``object.__getstate__`` of another returned."""
    for attributes in state if isinstance(state, tuple) else (state,):
        for name, value in (attributes or {}).items():
            object.__setattr__(owner, name, value)
