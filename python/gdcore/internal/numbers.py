"""Checks for values that a model's dtype cannot hold: NaN, infinity, too large values, columns of too small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from .. import _core
from .arrays import Array
from .features import FeatureNames

__all__ = [
    "check_batch_scale",
    "check_codes",
    "check_numbers",
    "check_scale",
    "column_name",
    "refuse_scaling",
    "unrepresentable_scaling",
]

SMALL = 1 << 16  # elements that are checked at once
SAFE = 1e36  # a sum of squares below it: every value is far below the float32 maximum
TINY = 1e-70  # a sum of squares above it: at least one value is far above the float32 minimum


# np.vdot without NumPy's dispatch to arrays of other libraries, which takes as long as the product.
vdot = getattr(np.vdot, "_implementation", np.vdot)


def in_doubt(array: Array) -> bool:
    """Return whether a small array of floats may hold a value outside float32, judged by its sum of squares.

    For single rows this takes half a microsecond; `check_numbers` checks every value.
    """
    return not vdot(array, array) < SAFE


def check_numbers(array: Array, dtype: str, name: str, names: FeatureNames | None = None) -> None:
    """Raise ValueError for the first value that is NaN or infinite, or becomes so in `dtype`.

    Parameters
    ----------
    array : ndarray
        Of any numeric type, shape (rows, columns) or (rows,).
    dtype : str
        The model's dtype.
    name : str
        The argument's name, for messages.
    names : tuple of str, optional
        Names of the columns.
    """
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or array.size == 0:
        return
    representable = array.dtype.char in "fd" and array.dtype.itemsize <= np.dtype(dtype).itemsize
    if representable and array.flags.c_contiguous and _core.first_nonfinite(array) < 0:
        return
    limit = min(float(np.finfo(dtype).max), float(np.finfo(array.dtype).max))
    rows = max(1, SMALL // max(1, array[0].size))
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        if part.dtype.char in "fd" and not in_doubt(part):
            continue
        bad = ~(np.abs(part) <= limit) if part.dtype.itemsize > 2 else ~np.isfinite(part)
        if bad.any():
            row, column = np.argwhere(bad.reshape(len(part), -1))[0]
            value = part.reshape(len(part), -1)[row, column]
            what = "; expected finite numbers, none of them missing"
            if np.isnan(value) and name.endswith("x"):
                what += ": fill them in, with the mean of the column, say; gd.tables.TabularModel takes them"
            if np.isfinite(value):
                what = f", which {dtype} cannot represent: {_what_to_do(dtype)}"
            raise ValueError(f"{name}: got {value:g} in row {first + row}, {column_name(int(column), names)}{what}")


def check_codes(array: Array, columns: Sequence[tuple[int, int]], name: str, names: FeatureNames | None = None) -> None:
    """Raise ValueError for the first value that is no code of a category.

    Parameters
    ----------
    array : ndarray
        Of any numeric type, shape (rows, columns).
    columns : sequence of tuple
        Columns that hold codes, each with its number of categories.
    name : str
        The argument's name, for messages.
    names : tuple of str, optional
        Names of the columns.
    """
    found = _core.first_wrong_code(array, columns)
    if found is not None:
        row, (column, size) = found[0], columns[found[1]]
        where = f"in row {row}, {column_name(column, names)}"
        value = float(array[row, column])
        text = f"{value:g}"
        if value != float(text) and float(text).is_integer():  # all digits of a number beside a whole one
            text = f"{value:.17g}"
        raise ValueError(
            f"{name}: got {text} {where}; expected the code of a category, a whole number "
            f"from 0 to {size - 1}, as an Embedding reads this column"
        )


def check_scale(array: Array, dtype: str, name: str, names: FeatureNames | None = None) -> None:
    """Raise ValueError for a column that is not zero, but becomes all zeros, or nearly so, in `dtype`."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or array.size == 0:
        return
    table = array.reshape(len(array), -1)
    tiny = np.finfo(dtype).tiny
    few = np.abs(table[:16]).max(axis=0)  # the first rows suffice for most columns
    if few.min() >= tiny:
        return
    columns = np.arange(table.shape[1])  # columns without a value of at least `tiny` so far
    most = np.zeros(len(columns))
    first, rows = 0, 16
    while first < len(table) and len(columns):
        part = table[first : first + rows]
        part = part if len(columns) == table.shape[1] else part[:, columns]
        most = np.maximum(most, np.abs(part.astype(np.float64)).max(axis=0))
        columns, most = columns[most < tiny], most[most < tiny]
        first, rows = first + rows, 1024
    for column, largest in zip(columns, most, strict=True):
        if largest > 0.0:
            _refuse_tiny(name, f"{largest:g} in {column_name(int(column), names)}", dtype)


def check_batch_scale(array: Array, dtype: str, name: str) -> None:
    """Raise ValueError for a batch of several rows that is not zero, but becomes all zeros, or nearly so, in `dtype`.

    Single columns are not checked: a column may be tiny in one batch and larger in others, and `check_scale` checks
    all rows.
    """
    if array.dtype.kind != "f" or len(array) < 2 or array.size == 0:
        return
    largest = max(-float(array.min()), float(array.max()))
    if 0.0 < largest < np.finfo(dtype).tiny:
        _refuse_tiny(name, f"{largest:g}", dtype)


def _refuse_tiny(name: str, largest: str, dtype: str) -> NoReturn:
    raise ValueError(
        f"{name}: got numbers of at most {largest}, which {dtype} rounds to zero or subnormal numbers: "
        f"{_what_to_do(dtype)}"
    )


def unrepresentable_scaling(layer: _core.Layer, dtype: str) -> int | None:
    """Return the first feature of a Standardizer whose mean or standard deviation `dtype` cannot hold."""
    if not isinstance(layer, _core.Standardizer) or layer.mean is None or layer.std is None:
        return None
    limits = np.finfo(dtype)
    sound = (np.abs(layer.mean) <= limits.max) & (layer.std <= limits.max) & (layer.std >= limits.tiny)
    return None if sound.all() else int(np.argmin(sound))


def refuse_scaling(mean: float, std: float, column: int, dtype: str, names: FeatureNames | None) -> NoReturn:
    """Raise ValueError for the scaling of a column that `dtype` cannot hold."""
    raise ValueError(
        f"x: the Standardizer scales {column_name(column, names)} by the mean {mean:g} and the deviation {std:g}, "
        f"which {dtype} cannot represent: {_what_to_do(dtype)}"
    )


def column_name(number: int, names: FeatureNames | None) -> str:
    """Return the name of a column for messages, or its number if it has no name."""
    return f"column {int(number)}" if names is None or number >= len(names) else f"column {names[number]!r}"


def _what_to_do(dtype: str) -> str:
    return "scale the data" + (', or give the model dtype="float64"' if dtype == "float32" else "")
