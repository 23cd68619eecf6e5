"""Values of a column in the form that `encoding` takes.

Numbers, booleans and durations become float64 with NaN for missing values; dates become microseconds since 1970 in UTC;
categories are text, numbers and booleans as Python objects, with None for missing values.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..internal.checks import shown
from ..internal.frames import TIMES, first_of
from ..internal.labels import key_of
from .columns import DATES, EXPECTED, Column, Float64, Key, as_float, missing

__all__ = ["check_meaning", "dates_of", "keys_of", "meaning_of", "numbers_of"]

BOOLEANS = ("True", "False", "true", "false")
KEYS = {str, int, float, bool}  # the types of categories
FIRST_YEAR, LAST_YEAR = "0001-01-01", "10000-01-01"  # the years that Python's dates have


def numbers_of(column: Column, where: str, kind: str = "number", offset: int = 0) -> Float64:
    """Return numbers, booleans or durations (in seconds) less `offset` as float64, NaN where they are missing.

    Raises
    ------
    TypeError
        If a value is no number, or text that is none.
    ValueError
        If one is infinite, or a boolean column has another value than 0 and 1.
    """
    values = column.values
    if values.dtype.kind == "m":
        found = np.where(np.isnat(values), np.nan, values.astype("m8[us]").astype(np.int64) / 1e6)
    elif values.dtype.kind in "biu" and offset:
        found = (values.astype(object) - offset).astype(np.float64)
    elif values.dtype.kind in "biuf" and values.dtype.itemsize <= 8:
        found = values.astype(np.float64) - offset if offset else values.astype(np.float64)
    elif values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = (values - np.longdouble(offset)).astype(np.float64)
    else:
        found = np.fromiter(_floats(values, where, offset), np.float64, len(values))
    if np.isinf(found).any():
        row = int(np.argmax(np.isinf(found)))
        raise ValueError(f"{where}: got {shown(values[row])} in row {row}; expected finite numbers or missing values")
    if kind == "boolean":
        odd = ~(np.isnan(found) | (found == 0) | (found == 1))
        if odd.any():
            row = int(np.argmax(odd))
            raise ValueError(f"{where}: got {shown(values[row])} in row {row}; expected True or False, as in training")
    return found


def _floats(values: Array, where: str, offset: int) -> Any:
    """Yield the values of a column of objects or of text as floats."""
    gone, nan = missing(values).tolist(), float("nan")
    for row, (item, nothing) in enumerate(zip(values.tolist(), gone, strict=True)):
        found: float | None = None
        if nothing:
            found = nan
        elif type(item) is float:
            found = item - offset
        elif isinstance(item, (str, bytes)):
            found = as_float(key_of(item))
            if found is not None and offset:
                found = float(Decimal(key_of(item).strip()) - offset)
        elif isinstance(item, (datetime.timedelta, np.timedelta64)):
            found = float(np.timedelta64(item, "us").astype(np.int64)) / 1e6
        elif isinstance(item, datetime.time):
            found = item.hour * 3600 + item.minute * 60 + item.second + item.microsecond / 1e6
        elif isinstance(item, (Real, Decimal, np.bool_)):
            try:
                found = float(_less(item, offset))
            except OverflowError:
                found = float("inf")
        if found is None:
            hint = ", or True and False: series == 'True' makes them of text" if str(item) in BOOLEANS else ""
            raise TypeError(f"{where}: got {type(item).__name__} {shown(item)} in row {row}; expected numbers{hint}")
        yield found


def _less(number: Any, offset: int) -> Any:
    return number - offset if offset else number


def meaning_of(column: Column, where: str) -> str:
    """Return what the values of a column of numbers or dates are, "numbers" or one of `TIMES`; "" if all are missing.

    Raises
    ------
    TypeError
        If values of two meanings are beside each other.
    """
    values = column.values
    kind = values.dtype.kind
    known = values[~missing(values)]
    if not len(known):
        return ""
    if kind in "mM":
        return TIMES[2] if kind == "m" else TIMES[column.zoned]
    if kind != "O":
        return "numbers"
    items = known.tolist()
    first = _meaning(items[0])
    if len(set(map(type, items))) > 1 or first in TIMES[:2]:  # some times of a type may have a zone
        for item in items:
            if (other := _meaning(item)) != first:
                raise TypeError(
                    f"{where}: got {shown(items[0])} ({first}) beside {shown(item)} ({other}); expected one of the two"
                )
    return first


def _meaning(item: Any) -> str:
    if isinstance(item, (datetime.timedelta, np.timedelta64)):
        return TIMES[2]
    if isinstance(item, datetime.time):
        return TIMES[3]
    if isinstance(item, (datetime.date, np.datetime64)):
        return TIMES[getattr(item, "tzinfo", None) is not None]
    return "numbers"


def check_meaning(column: Column, expected: str, where: str) -> None:
    """Raise TypeError if the values of a column mean something else than in training: `meaning_of` there, "" for any.

    A time of day, say, is a number of seconds, but minutes are numbers too; a time without a zone may be local.
    """
    found = meaning_of(column, where) if expected else ""
    if found not in ("", expected):
        raise TypeError(f"{where}: got {found}; expected {expected}, as in training")


def dates_of(column: Column, where: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return dates as microseconds since 1970 in UTC, and which of them are missing.

    Raises
    ------
    TypeError
        If a value is no date.
    ValueError
        If one is outside the years 1 to 9999.
    """
    values = column.values
    gone = missing(values)
    if values.dtype.kind == "f" and gone.all():  # a column without any date has no type
        values = np.full(len(values), np.datetime64("NaT", "us"))
    if values.dtype.kind == "O":
        found = np.full(len(values), np.datetime64("NaT", "us"))
        for row in np.flatnonzero(~gone).tolist():
            item = values[row]
            if not isinstance(item, (datetime.date, np.datetime64)):
                raise TypeError(
                    f"{where}: got {type(item).__name__} {shown(item)} in row {row}; expected dates: {DATES}"
                )
            found[row] = _in_range(np.array([_utc(item)], "M8"), where, row)[0]
        values = found
    if values.dtype.kind != "M":
        given = f"{values.dtype}, such as {shown(first_of(values))}"
        raise TypeError(f"{where}: got {given}; expected dates: {DATES}")
    return _in_range(values, where, 0).view(np.int64), gone


def _utc(item: Any) -> Any:
    if getattr(item, "tzinfo", None) is None:
        return item if isinstance(item, np.datetime64) else np.datetime64(item)
    return np.datetime64(item.astimezone(datetime.UTC).replace(tzinfo=None))


def _in_range(values: Array, where: str, first: int) -> npt.NDArray[np.datetime64]:
    days = values.astype("M8[D]") if np.datetime_data(values.dtype)[0] not in "YMW" else values
    outside = (days < np.datetime64(FIRST_YEAR)) | (days >= np.datetime64(LAST_YEAR))
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"{where}: got {values[row]} in row {first + row}; expected dates of the years 1 to 9999")
    return values.astype("M8[us]")


def keys_of(column: Column, where: str) -> list[Key | None]:
    """Return the values of a column of categories, None where they are missing.

    Text stays text; equal numbers and booleans are one category; other values that a frame declares as categories, such
    as intervals, count by their text.

    Raises
    ------
    TypeError
        If a value cannot be a category: a list, say.
    """
    values = column.values
    if values.dtype.kind == "c" or values.ndim != 1:
        raise TypeError(f"{where}: got {values.dtype}; {EXPECTED}")
    if values.dtype.kind in "mM" and np.isnat(values).all():  # a column without any value has no type
        return [None] * len(values)
    if values.dtype.kind in "mM":  # of which some units would become Python's dates, and others numbers
        given = f"{values.dtype}, such as {shown(first_of(values))}," if len(values) else str(values.dtype)
        raise TypeError(
            f"{where}: got {given} as categories; expected text, numbers or booleans: make text of it first"
        )
    gone, items = missing(values).tolist(), values.tolist()
    other: Callable[[Any], Key] | None = str if column.declared else None
    return [
        None if nothing else item if type(item) in KEYS else _key(item, where, row, other)
        for row, (item, nothing) in enumerate(zip(items, gone, strict=True))
    ]


def _key(item: Any, where: str, row: int, other: Callable[[Any], Key] | None) -> Key:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, bytes):
        return str(key_of(item))
    if isinstance(item, np.generic) and item.dtype.kind in "biuf" and item.dtype.itemsize <= 8:
        return item.item()  # type: ignore[no-any-return]
    if isinstance(item, (Real, Decimal)):
        number = float(item)
        # Exact, where floats would make two numbers one.
        whole = int(item) if number.is_integer() else None  # type: ignore[arg-type]
        return whole if whole is not None and whole == item else number
    if other is not None and type(item).__hash__ is not None:
        return other(item)
    raise TypeError(f"{where}: got {type(item).__name__} {shown(item)} in row {row}; {EXPECTED}")
