"""Columns of a table, and the kind of each: numbers, booleans, dates, or categories, which are all else.

Lists, complex numbers and objects of other types are refused.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..internal import looks
from ..internal.arrays import Array, NamedArray, to_any_array
from ..internal.checks import is_iterable, shown
from ..internal.features import FeatureNames, refuse_duplicates
from ..internal.frames import first_of, frame_names, is_frame, is_series, series_column, typed_columns
from ..internal.labels import key_of

__all__ = [
    *("DATES", "EXPECTED", "KINDS", "MANY", "Column", "Float64", "Frame", "Key"),
    *("as_float", "is_number", "kind_of", "missing", "read", "read_column"),
]

Key: TypeAlias = str | int | float | bool  # a category; equal numbers and booleans are one category
Float64: TypeAlias = npt.NDArray[np.float64]

KINDS = ("number", "boolean", "category", "date")
DATES = "convert text first, such as by pandas.to_datetime, str.to_datetime of polars or pyarrow.compute.cast"
EXPECTED = "expected numbers, booleans, text, categories or dates"
CODE = re.compile(looks.CODE, re.ASCII)
MANY = 30  # text of more values is read as numbers where all of it is numbers
SCALARS = (str, bytes, Real, Decimal, np.generic, datetime.date, datetime.time, datetime.timedelta)


class Column(NamedTuple):
    """A column as it was given.

    Attributes
    ----------
    name : str
        Its name.
    values : ndarray
        Values of any type.
    declared, zoned : bool
        Whether the frame declares them as categories, and whether they are times with a time zone, which NumPy lacks.
    """

    name: str
    values: Array
    declared: bool = False
    zoned: bool = False

    def take(self, rows: npt.NDArray[np.int64]) -> Column:
        """Return some of the rows."""
        return self._replace(values=self.values[rows])


class Frame(NamedTuple):
    """A table as it was given: its columns, whether they have names of their own, and the number of rows."""

    columns: tuple[Column, ...]
    named: bool
    rows: int

    @property
    def names(self) -> FeatureNames:
        """Names of the columns, their positions if they have none."""
        return tuple(column.name for column in self.columns)

    def take(self, rows: npt.NDArray[np.int64]) -> Frame:
        """Return some of the rows."""
        return self._replace(columns=tuple(column.take(rows) for column in self.columns), rows=len(rows))

    def column(self, name: str, argument: str) -> Column:
        """Return the column of a name, which an argument has given; raise ValueError if there is none."""
        if self.named and name in self.names:
            return self.without(name)[0]
        names = shown(list(self.names) if self.named else [], 200)
        raise ValueError(
            f"{argument}: got the name {str(name)!r}; expected a column of x, one of {names}, or the values themselves"
        )

    def without(self, name: str) -> tuple[Column, Frame]:
        """Return the column of a name, and the others."""
        found = next(column for column in self.columns if column.name == name)
        return found, self._replace(columns=tuple(column for column in self.columns if column is not found))

    def pick(self, order: list[int] | None) -> Frame:
        """Return the columns at some positions, None for all of them."""
        return self if order is None else self._replace(columns=tuple(self.columns[i] for i in order))


def read(value: Any, name: str) -> Frame:
    """Return the columns of a frame, of a dictionary of columns, of a sparse matrix, or of an array (rows, columns).

    Raises
    ------
    TypeError
        If `value` is none of these, or a column has a type that NumPy lacks.
    ValueError
        If two columns have the same name, columns differ in length, or an array has another shape.
    """
    if is_frame(value):
        names = frame_names(value, name)
        fields = typed_columns(value, name)
    elif isinstance(value, Mapping):
        names = tuple(str(key) for key in value)
        refuse_duplicates(names, name)
        fields = [_fields(item, f"{name}: column {str(key)!r}") for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and value and all(isinstance(row, (list, tuple, Mapping)) for row in value):
        return _of_rows(value, name)
    elif isinstance(value, str):
        how = "gdcore.data.Parquet(path)" if value.endswith(".parquet") else "read a file first, pandas.read_csv(path)"
        raise TypeError(f"{name}: got text, {shown(value)}; expected a table: {how}")
    else:
        return _of_array(value, name)
    columns = tuple(Column(key, *own) for key, own in zip(names, fields, strict=True))
    for column in columns:
        if column.values.ndim != 1:
            raise TypeError(f"{name}: column {column.name!r}: got several values in each row; {EXPECTED}")
        if len(column.values) != len(columns[0].values):
            lengths = {c.name: len(c.values) for c in columns}
            raise ValueError(f"{name}: got columns of different lengths: {shown(lengths, 200)}")
    return Frame(columns, True, len(columns[0].values) if columns else 0)


def _of_rows(rows: Sequence[Any], name: str) -> Frame:
    """Return the columns of rows that are lists; NumPy would make text of numbers beside text, and of None."""
    if any(isinstance(row, Mapping) for row in rows):
        raise TypeError(f"{name}: got a list of dictionaries; expected a table: pandas.DataFrame(rows), or its columns")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"{name}: got rows of {lengths[0]} to {lengths[-1]} values; expected as many in each row")
    fields = [_fields(column, f"{name}: column '{i}'") for i, column in enumerate(zip(*rows, strict=True))]
    return Frame(tuple(Column(str(i), *own) for i, own in enumerate(fields)), False, len(rows))


def _of_array(value: Any, name: str) -> Frame:
    if hasattr(value, "tocsc") and hasattr(value, "nnz"):  # a sparse matrix of SciPy: one dense column at a time
        by_column = value.tocsc()
        arrays = [by_column[:, [i]].toarray()[:, 0] for i in range(value.shape[1])]
        rows = value.shape[0]
    else:
        if is_series(value):
            kind = type(value).__name__
            raise TypeError(f"{name}: got {kind}; expected a table (one row of a frame: frame.iloc[[0]], frame[:1])")
        array = value if isinstance(value, np.ndarray) else to_any_array(value, name)
        if isinstance(array, np.ma.MaskedArray):
            array = to_any_array(array, name)
        if array.ndim != 2:
            hint = ""
            if array.ndim == 1:
                hint = f": reshape your data, {name}.reshape(-1, 1) for one column or {name}.reshape(1, -1) for one row"
            raise ValueError(f"{name}: got shape {array.shape}; expected (rows, columns){hint}")
        arrays, rows = list(array.T), len(array)
    names = value.names if isinstance(value, NamedArray) else None  # of a batch, or a window of files
    labels = range(len(arrays)) if names is None else names
    pairs = zip(map(str, labels), arrays, strict=True)
    return Frame(tuple(Column(*pair) for pair in pairs), names is not None, rows)


def _fields(value: Any, name: str) -> tuple[Array, bool, bool]:
    """Return the fields of a `Column` behind its name."""
    if is_series(value):
        return series_column(value, name)
    if isinstance(value, (str, bytes, Mapping)) or not is_iterable(value):
        raise TypeError(
            f"{name}: got {shown(value)}; expected a sequence of values; that of one row is [{shown(value)}]"
        )
    if isinstance(value, np.ndarray):
        return to_any_array(value, name), False, False
    items = list(value)
    if all(isinstance(item, (int, float)) for item in items):
        return np.array(items) if items else np.empty(0), False, False
    return np.fromiter(items, object, len(items)), False, False


def read_column(value: Any, name: str) -> Column:
    """Return one column: a series, an array or a list of shape (rows,) or (rows, 1), or a frame of one column."""
    flat = isinstance(value, list) and not any(isinstance(item, (list, np.ndarray)) for item in value)
    declared = zoned = False
    if is_series(value) or flat:
        array, declared, zoned = _fields(value, name)
    elif is_frame(value):
        [(array, declared, zoned)] = typed_columns(value, name)
    else:
        array = to_any_array(value, name)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}; expected one value for each row")
    return Column(name, array, declared, zoned)


# ---- Kinds ----------------------------------------------------------------------------------------------------------
def missing(values: Array) -> npt.NDArray[np.bool_]:
    """Return which values are missing: None, NaN, NaT, pandas.NA."""
    kind = values.dtype.kind
    if kind in "fc":
        return np.isnan(values)
    if kind in "mM":
        return np.isnat(values)
    if kind != "O":
        return np.zeros(len(values), np.bool_)
    items = values.tolist()
    types = set(map(type, items))
    always = {each for each in types if each.__name__ in ("NoneType", "NAType", "NaTType")}
    perhaps = {each for each in types if issubclass(each, (Real, Decimal, np.generic)) and not issubclass(each, int)}
    if perhaps:
        found = (type(v) in always or (type(v) in perhaps and v != v) for v in items)
    else:
        found = (type(v) in always for v in items)
    return np.fromiter(found, np.bool_, len(items))


def kind_of(column: Column, where: str) -> str:
    """Return the kind of a column; one without values, or all missing, is of numbers.

    Text whose values are all numbers is of numbers if there are more than 30 of them and none has zeros in front, as
    codes do; otherwise it is of categories.

    Raises
    ------
    TypeError
        If its values are of no known type; names the column and the first of them.
    """
    values = column.values
    kind = values.dtype.kind
    if column.declared:
        return "category"
    if kind in "biufmM":
        return {"b": "boolean", "M": "date"}.get(kind, "number")
    if kind in "US":
        return _kind_of_text([key_of(item) for item in values.tolist()])
    if kind != "O":
        given = f" {shown(first_of(values))}" if values.size else ""
        raise TypeError(f"{where}: got {values.dtype}{given}; {EXPECTED}")
    return _kind_of_objects(values[~missing(values)].tolist(), where)


def _kind_of_objects(items: list[Any], where: str) -> str:
    types = set(map(type, items))
    if any(not issubclass(each, SCALARS) for each in types):
        foreign = next(item for item in items if not isinstance(item, SCALARS))
        hint = " (series.dt.to_timestamp() makes dates of periods)" if type(foreign).__name__ == "Period" else ""
        raise TypeError(f"{where}: got {type(foreign).__name__} {shown(foreign)}; {EXPECTED}{hint}")

    def only(*kinds: type) -> bool:
        return all(issubclass(each, kinds) for each in types)

    if only(bool, np.bool_):
        return "boolean" if items else "number"
    if only(Real, Decimal, np.bool_) or only(datetime.timedelta, np.timedelta64) or only(datetime.time):
        return "number"
    if only(datetime.date, np.datetime64):
        return "date"
    if only(str, bytes):
        return _kind_of_text([key_of(item) for item in set(items)])
    if only(str, bytes, Real, Decimal, np.bool_):
        return "category"
    names = ", ".join(sorted(each.__name__ for each in types))
    raise TypeError(f"{where}: got values of the types {names}; expected one type")


def _kind_of_text(items: list[str]) -> str:
    distinct = set(items)
    return "number" if len(distinct) > MANY and all(map(is_number, distinct)) else "category"


def is_number(text: str) -> bool:
    """Return whether a text is a number, rather than a code with zeros in front, such as "00730"."""
    return as_float(text) is not None and CODE.fullmatch(text.strip()) is None


def as_float(text: str) -> float | None:
    """Return the number that a text is, None if it is none; Python's own form "1_000" is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
