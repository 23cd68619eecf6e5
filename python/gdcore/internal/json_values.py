"""Checks of values read from a file's JSON; each error is a FormatError that names the entry."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from .._core import DeviceError
from .checks import FormatError, shown

T = TypeVar("T")
DEEPEST = 40  # largest nesting depth that is read; gdcore writes less

# Exceptions that invalid entries cause in code that expects valid ones.
NONSENSE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def entry(where: str) -> Iterator[None]:
    """Turn an exception caused by an invalid entry into a FormatError that names the entry."""
    try:
        yield
    except (FormatError, DeviceError):
        raise  # DeviceError: the file is valid, but this machine lacks the device
    except NONSENSE as error:
        raise FormatError(f"{where}: {error or type(error).__name__}") from error


def parse(text: str | bytes | bytearray, where: str) -> Any:
    """Return the value of a JSON text; refuse duplicate keys and nesting deeper than `DEEPEST`."""
    with entry(where):
        value = json.loads(text, object_pairs_hook=_unique)
    depth, level = 0, [value]
    while level:
        level = [
            item for v in level if isinstance(v, (dict, list)) for item in (v.values() if isinstance(v, dict) else v)
        ]
        depth += 1
        if depth > DEEPEST:
            raise FormatError(f"{where}: got more than {DEEPEST} levels of nesting")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has {shown(next(name for name in names if names.count(name) > 1))} twice")
    return made


def wrong(where: str, value: object, expected: str) -> FormatError:
    """Return the error of an entry with another value than expected."""
    got = type(value).__name__ if isinstance(value, (dict, list)) else shown(value)
    return FormatError(f"{where}: got {got}; expected {expected}")


def mapping(value: object, where: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise wrong(where, value, "an object")
    return value


def listing(value: object, where: str, item: Callable[[Any, str], T]) -> list[T]:
    """Return the items of a JSON array, each as `item` returns it."""
    if not isinstance(value, list):
        raise wrong(where, value, "a list")
    return [item(v, f"{where}[{i}]") for i, v in enumerate(value)]


def text(value: object, where: str) -> str:
    """Return `value` if it is a string."""
    if not isinstance(value, str):
        raise wrong(where, value, "text")
    return value


def flag(value: object, where: str) -> bool:
    """Return `value` if it is true or false."""
    if not isinstance(value, bool):
        raise wrong(where, value, "true or false")
    return value


def whole(value: object, where: str, high: int = 2**62) -> int:
    """Return `value` if it is a whole number from 0 to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
        raise wrong(where, value, f"a whole number from 0 to {high}")
    return value


def seed(value: object, where: str) -> int:
    """Return `value` if it is a seed."""
    return whole(value, where, 2**63 - 1)


def number(value: object, where: str, low: float = -math.inf) -> float:
    """Return `value` if it is a finite number of at least `low`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            made = float(value)
        except OverflowError:
            made = math.inf
        if math.isfinite(made) and made >= low:
            return made
    raise wrong(where, value, "a finite number" + ("" if low == -math.inf else f" of at least {low:g}"))


def entries(value: object, where: str, checks: Mapping[str, Callable[[Any, str], Any]]) -> dict[str, Any]:
    """Return the entries of a JSON object, each as its check returns it; refuse missing and unknown entries."""
    given = mapping(value, where)
    for name in given:
        if name not in checks:
            raise FormatError(f"{where}: got the unknown entry {shown(name)}; expected {', '.join(checks)}")
    for name in checks:
        if name not in given:
            raise FormatError(f"{where}: the entry {name!r} is missing")
    return {name: check(given[name], f"{where}.{name}") for name, check in checks.items()}
