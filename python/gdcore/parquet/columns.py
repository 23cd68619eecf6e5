"""Columns of a row group, from Arrow to NumPy: numbers without a copy where possible, and targets of any type."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..internal.arrays import Array
from .files import module

__all__ = ["any_column", "fits_float32", "numbers", "plain"]


def numbers(table: Any, name: str, where: str) -> Array:
    """Return a column of numbers or booleans, (rows,), in its own type where NumPy has it.

    Raises
    ------
    ValueError
        If a value is missing; the message begins with `where`.
    """
    column = _whole(table, name, where)
    if column.type.id not in plain():  # 64 columns of a row group are read in a millisecond: no more calls than needed
        column = _as_plain(column, name, where)
    array: Array = column.to_numpy(zero_copy_only=True)
    return array


@cache
def plain() -> frozenset[int]:
    """Return the numbers of the Arrow types that NumPy and the core have."""
    names = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    return frozenset(getattr(module(), name)().id for name in (*names, "float32", "float64"))


def _as_plain(column: Any, name: str, where: str) -> Any:
    """Return a column of another type as one of these."""
    types = module("pyarrow.types")
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
        _refuse_missing(column, name, where)  # among the values that the codes stand for
    if types.is_boolean(column.type):
        return column.cast("uint8")
    if types.is_float16(column.type):
        return module().array(column.to_numpy(zero_copy_only=True).astype(np.float32))
    return column.cast("float64") if types.is_decimal(column.type) else column


def any_column(table: Any, name: str, where: str) -> tuple[Array, Array | None]:
    """Return a column of any type, (rows,): its distinct values and the number of each row's, or the values and None.

    Text has few distinct values, each of which is then converted and looked up once.
    """
    column = _whole(table, name, where)
    types, kind = module("pyarrow.types"), column.type
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    if text:
        column = column.dictionary_encode()
    if types.is_dictionary(column.type):
        values = column.dictionary.to_numpy(zero_copy_only=False)
        return values, column.indices.to_numpy(zero_copy_only=False)
    if types.is_boolean(kind) or types.is_decimal(kind) or kind == module().float16():
        return numbers(table, name, where), None
    return column.to_numpy(zero_copy_only=False), None


def _whole(table: Any, name: str, where: str) -> Any:
    """Return a column as one array without missing values."""
    column = table.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    array = array.chunk(0) if hasattr(array, "chunk") else array
    _refuse_missing(array, name, where)
    return array


def _refuse_missing(array: Any, name: str, where: str) -> None:
    if array.null_count:
        row = int(np.argmin(array.is_valid().to_numpy(zero_copy_only=False)))
        raise ValueError(f"{where}: got a missing value in row {row}, column {name!r}; expected none")


def fits_float32(kind: Any) -> bool:
    """Return whether float32 holds every number of an Arrow type."""
    types = module("pyarrow.types")
    kind = kind.value_type if types.is_dictionary(kind) else kind
    small = (types.is_boolean, types.is_float16, types.is_float32, types.is_int8, types.is_uint8)
    return any(is_of(kind) for is_of in (*small, types.is_int16, types.is_uint16))
