"""Checks of plain arguments, with one form of message: the argument, the value it got, the expected value."""

from __future__ import annotations

import importlib
import math
import operator
import os
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, TypeGuard, TypeVar

import numpy as np

T = TypeVar("T")


class FormatError(ValueError):
    """Raised for a file that is damaged, truncated, written by a newer version, or not written by gdcore."""


def shown(value: object, limit: int = 60) -> str:
    """Return ``repr(value)``, shortened to about `limit` characters, for use inside a message.

    Scalars of NumPy are shown as the values that they are, 3 for ``np.int64(3)``, and dates without quotation marks.
    """
    try:
        text = " ".join(plain_repr(value).split())  # on one line
    except ValueError:  # an integer above Python's limit of digits for text
        text = "<too long to be shown>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def plain_repr(value: Any, depth: int = 0) -> str:
    """Return ``repr(value)`` with scalars of NumPy as plain values, also in lists, tuples, sets and dictionaries."""
    kind = type(value)
    if isinstance(value, np.generic):
        return str(value) if value.dtype.kind in "biufcmM" else repr(value.item())
    if kind is np.ndarray and value.dtype == object:
        return f"array({plain_repr(value.tolist(), depth + 1)}, dtype=object)"
    if depth > 4 or kind not in (list, tuple, set, dict) or not value:
        return repr(value)
    if kind is dict:
        pairs = [(plain_repr(key, depth + 1), plain_repr(item, depth + 1)) for key, item in value.items()]
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    inside = ", ".join(plain_repr(item, depth + 1) for item in value)
    if kind is tuple:
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return f"[{inside}]" if kind is list else f"{{{inside}}}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name that is nearest to a wrong one, whatever the case; else ""."""
    import difflib  # here, to keep `import gdcore` fast

    names = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""


def integer(value: object, name: str, *, minimum: int = 0, expected: str = "a whole number") -> int:
    """Return `value` as an int of at least `minimum`.

    Raises
    ------
    TypeError
        If `value` is not a whole number, or is a bool.
    ValueError
        If it is below `minimum`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: got {shown(value)}; expected {expected} of at least {minimum}") from None
    if number < minimum:
        raise ValueError(f"{name}: got {shown(number)}; expected {expected} of at least {minimum}")
    return number


def real(value: object, name: str, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """Return `value` as a finite float between `low` and `high` (`low` itself excluded where `open_low`).

    Raises
    ------
    TypeError
        If `value` is not a number.
    ValueError
        If it is not finite or out of range.
    """
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"{name}: got {shown(value)}; expected a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:  # an int or a Fraction beyond the range of floats
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name}: got {shown(value)}; expected a number") from None
    if not math.isfinite(number) or number < low or number > high or (open_low and number == low):
        lower = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
        upper = "" if high == math.inf else f"{' and' if lower else ''} at most {high:g}"
        raise ValueError(f"{name}: got {shown(value)}; expected a finite number{lower}{upper}")
    return number


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is a real number other than True and False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def flag(value: object, name: str) -> bool:
    """Return `value` as a bool if it is a bool of Python or NumPy, 0 or 1; raise TypeError otherwise."""
    if type(value).__name__ not in ("bool", "bool_", "int") or value not in (0, 1):  # "bool_" is NumPy's
        raise TypeError(f"{name}: got {shown(value)}; expected True or False")
    return bool(value)


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Return whether `value` can be iterated over; a 0-d NumPy array has ``__iter__``, but cannot."""
    return hasattr(value, "__iter__") and not isinstance(value, type) and getattr(value, "ndim", 1) != 0


def has_keys(value: object) -> bool:
    """Return whether `value` has keys: a mapping, or a pandas Series."""
    return hasattr(value, "items") and not isinstance(value, type)


def by_key(value: Any, name: str) -> dict[Any, Any]:
    """Return a mapping or a pandas Series as a dict; raise ValueError if a key occurs twice."""
    pairs = list(value.items())
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in made if keys.count(key) > 1)
        raise ValueError(f"{name}: got the key {shown(twice)} more than once; expected keys that differ")
    return made


def path_text(file: Any, name: str, expected: str) -> str:
    """Return a path as text.

    Raises
    ------
    TypeError
        If `file` is not a path; numbers are refused, because the system would use them as file descriptors.
    ValueError
        If it contains a null character.
    """
    try:
        text = str(os.fsdecode(file))  # which text of NumPy is not yet
    except TypeError:
        raise TypeError(f"{name}: got {shown(file)}; expected {expected}") from None
    if "\0" in text:
        raise ValueError(f"{name}: got {shown(text)}, which has a null character; expected {expected}")
    return text


def optional(check: Callable[[object, str], T], value: object, name: str) -> T | None:
    """Return None for None, and ``check(value, name)`` for all else."""
    return None if value is None else check(value, name)


def instance(value: object, kind: type[T], name: str, example: str) -> T:
    """Return `value` if it is an instance of `kind`.

    Raises
    ------
    TypeError
        If it is not; the message gives `example`, or what was meant if a name of it is known, and says so if a class
        was given for an object.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{name}: got the class {value.__name__}; expected an object, such as {value.__name__}(...)")
    from .foreign_names import meant  # here, to keep `import gdcore` fast

    example = meant(value, kind) or example
    raise TypeError(
        f"{name}: got {type(value).__name__} {shown(value)}; expected an instance of {kind.__name__}, such as {example}"
    )


def choice(value: object, name: str, options: Iterable[str]) -> str:
    """Return `value` if it is one of the strings `options`; raise ValueError naming them all otherwise."""
    options = tuple(options)
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: got {shown(value)}; expected one of {', '.join(map(repr, options))}")
    return str(value)  # which a string of NumPy is not


def seed_or_random(seed: object, name: str = "seed") -> int:
    """Return `seed` as a whole number in [0, 2⁶³); if None, draw one from the operating system."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> 1
    number = integer(seed, name)
    if number >= 2**63:
        raise ValueError(f"{name}: got {shown(number)}; expected a whole number below 2**63")
    return number


def optional_module(module: str, feature: str, install: str) -> Any:
    """Import `module`, or raise an ImportError that says which `feature` needs it and what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{feature} needs {module.partition('.')[0]}: pip install {install}") from error
