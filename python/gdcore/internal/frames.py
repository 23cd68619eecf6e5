"""Converts frames and series of pandas, polars, pyarrow and other narwhals backends to NumPy arrays and column names.

narwhals is imported with the first frame. Nullable columns become floats with NaN for missing values, or
objects where floats would round their whole numbers.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from .checks import shown
from .features import FeatureNames, refuse_duplicates

Array: TypeAlias = npt.NDArray[Any]

READ = "?bBhHiIlLqQfd"  # NumPy's codes of the types that the core reads
TIMES = ("times without a time zone", "times with a time zone", "durations", "times of day")  # kinds of time
EXACT = 2**53  # whole numbers from here on are not all float64
TABLES = "gd.tables.TabularModel takes them"
_WHAT_TO_DO = {
    "c": "expected real numbers: take .real, .imag or abs() of it",
    "M": f"expected numbers: take the time since a reference date, in days, say; {TABLES}",
    "m": "expected numbers: divide it by a unit of time, such as pandas.Timedelta(days=1)",
    "O": f"expected real numbers (encode categories and text first, with pandas.get_dummies, say; {TABLES})",
}


def is_frame(value: object) -> bool:
    """Return whether `value` is a table with named columns, in memory or lazy."""
    kind = type(value)  # reading .columns of a lazy frame would start a computation
    return hasattr(kind, "columns") and any(
        hasattr(kind, sign)
        for sign in ("iloc", "__dataframe__", "__arrow_c_stream__", "__narwhals_dataframe__", "collect")
    )


def is_series(value: object) -> bool:
    """Return whether `value` is a column of such a table, or an array of Arrow or pandas."""
    module = type(value).__module__.partition(".")[0]
    return (
        hasattr(value, "__narwhals_series__")
        or (module in ("pandas", "polars", "pyarrow", "modin", "cudf") and hasattr(value, "__len__"))
    ) and not is_frame(value)


def frame_names(value: Any, name: str) -> FeatureNames:
    """Return the names of a frame's columns as text; raise ValueError if two are equal."""
    names = tuple(str(column) for column in frame_labels(value, name))
    refuse_duplicates(names, name)
    return names


def frame_labels(value: Any, name: str) -> list[Any]:
    """Return the names of a frame's columns unchanged: pandas allows text, numbers, dates and tuples."""
    _refuse_lazy(value, name)
    return list(value.schema.names if type(value).__module__.partition(".")[0] == "pyarrow" else value.columns)


def frame_columns(value: Any, name: str) -> list[Array]:
    """Return a frame's columns as arrays of any type."""
    frame_names(value, name)
    return [_any(column, name) for column in _narwhals(value, name).iter_columns()]


def typed_columns(value: Any, name: str) -> list[tuple[Array, bool, bool]]:
    """Return a frame's columns as `series_column` does."""
    frame_names(value, name)
    return [_typed(column, f"{name}: column {str(column.name)!r}") for column in _narwhals(value, name).iter_columns()]


def series_column(value: Any, name: str) -> tuple[Array, bool, bool]:
    """Return a series as an array of any type; whether it is declared as categories; whether its times have a zone."""
    return _typed(_narwhals(value, name), name)


def _typed(series: Any, name: str) -> tuple[Array, bool, bool]:
    kind = series.dtype
    declared = isinstance(kind, _nw().Categorical | _nw().Enum)
    return _any(series, name), declared, getattr(kind, "time_zone", None) is not None


def frame_array(value: Any, name: str) -> Array:
    """Return a frame's values, shape (rows, columns), in the smallest type that holds all columns.

    Raises
    ------
    TypeError
        If a column holds anything but numbers, or the frame is lazy.
    ValueError
        If two columns have one name.
    """
    frame_names(value, name)
    frame = _narwhals(value, name)
    columns = [_numbers(column, f"{name}: column {str(column.name)!r}") for column in frame.iter_columns()]
    if not columns:
        return np.empty((len(frame), 0))
    out = np.empty((len(frame), len(columns)), np.result_type(*columns))
    if out.dtype.char in "fd" and all(column.dtype.char in READ and column.dtype.isnative for column in columns):
        _core.columns_to_rows(columns, out)
        return out
    for i, column in enumerate(columns):
        out[:, i] = column
    return out


def series_array(value: Any, name: str) -> Array:
    """Return a series' values, shape (rows,), as an array of any type."""
    return _any(_narwhals(value, name), name)


def row_count(value: Any, name: str) -> int:
    """Return how many rows a frame has."""
    _refuse_lazy(value, name)
    return len(_narwhals(value, name))


def take_rows(value: Any, rows: npt.NDArray[np.int64]) -> Any:
    """Return some rows of a frame or series, as a frame or series of its own kind."""
    return _narwhals(value, "x")[rows].to_native()


def _nw() -> Any:
    import narwhals  # here, because arrays do not need it

    return narwhals


def _refuse_lazy(value: object, name: str) -> None:
    if hasattr(type(value), "collect"):
        raise TypeError(f"{name}: got a lazy {type(value).__name__}; expected one in memory: use .collect()")


def _narwhals(value: Any, name: str) -> Any:
    """Return a frame or series wrapped by narwhals."""
    module = type(value).__module__.partition(".")[0]
    if module == "pyarrow":
        import pyarrow

        if isinstance(value, pyarrow.RecordBatch):
            value = pyarrow.Table.from_batches([value])
        elif isinstance(value, pyarrow.Array):
            value = pyarrow.chunked_array([value])
    elif module == "pandas" and not hasattr(value, "iloc"):  # an Index, or a pandas array
        import pandas

        value = pandas.Series(value)
    wrapped = _nw().from_native(value, allow_series=True, pass_through=True)
    if wrapped is value:
        raise TypeError(f"{name}: got {type(value).__name__}, which narwhals does not support; expected an array")
    if isinstance(wrapped, _nw().LazyFrame):
        raise TypeError(f"{name}: got a lazy {type(value).__name__}; expected a frame in memory: compute it first")
    return wrapped


def _any(series: Any, name: str) -> Array:
    """Return a column as an array of its own type if NumPy has it, else of objects; missing values become NaN."""
    if isinstance(series.dtype, _nw().Categorical | _nw().Enum):
        return _objects(series.to_list())
    try:
        array = np.asarray(series.to_numpy())
        if array.dtype.kind == "f" and series.dtype.is_integer() and (np.abs(array) >= EXACT).any():
            return _objects(series.to_list())  # the missing values have made floats of the others
        return array
    except Exception as error:  # each library raises its own exceptions for types that NumPy lacks
        raise TypeError(f"{name}: got a column of {series.dtype}, which NumPy does not have: {error}") from error


def _objects(items: list[object]) -> Array:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _numbers(series: Any, name: str) -> Array:
    """Return a column of numbers or booleans as a numeric array, with NaN for missing values."""
    array = _any(series, name)
    if isinstance(series.dtype, _nw().Categorical | _nw().Enum):
        refuse(array, series.dtype, name)
    if array.ndim != 1:
        raise TypeError(f"{name}: got {series.dtype}, an array in each row; expected a number in each row")
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind == "O":
        return object_numbers(array, name)
    refuse(array, series.dtype, name)


def refuse(array: Array, dtype: object, name: str) -> NoReturn:
    """Raise TypeError for non-numeric values, with the first of them and what to do."""
    first = f", such as {shown(first_of(array))}" if array.size else ""
    raise TypeError(f"{name}: got {dtype}{first}; {_WHAT_TO_DO.get(array.dtype.kind, _WHAT_TO_DO['O'])}")


def first_of(array: Array) -> object:
    """Return the first element of an array as a Python object where possible; dates as text."""
    first = array.ravel()[0]
    return str(first) if array.dtype.kind in "Mm" else first.item() if isinstance(first, np.generic) else first


def object_numbers(array: Array, name: str) -> Array:
    """Return the Python numbers in an array of objects as float64; missing ones (None, pandas.NA) become NaN.

    Raises
    ------
    TypeError
        If an object is not a real number.
    """
    out = np.empty(array.shape, np.float64)
    flat = out.reshape(-1)
    for i, item in enumerate(array.ravel()):
        if isinstance(item, (Real, np.bool_, Decimal)):
            try:
                flat[i] = item
            except OverflowError:
                flat[i] = np.inf if item > 0 else -np.inf  # type: ignore[operator]
        elif is_missing(item):
            flat[i] = np.nan
        else:
            position = ", ".join(str(int(at)) for at in np.unravel_index(i, array.shape))
            raise TypeError(f"{name}: got {type(item).__name__} {shown(item)} at [{position}]; {_WHAT_TO_DO['O']}")
    return out


def is_missing(item: object) -> bool:
    """Return whether an object stands for a missing value: None, pandas.NA or pandas.NaT."""
    return item is None or type(item).__name__ in ("NAType", "NaTType")
