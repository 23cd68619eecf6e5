"""Columns of Parquet files as those of a table: their kind, by their type in Arrow, and their values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..internal.frames import series_column
from ..parquet.columns import plain
from ..parquet.files import Files, module
from .columns import EXPECTED, Column

__all__ = ["TEXT", "Values", "filtered", "kinds_in", "values_in"]

TEXT = "text"  # of which all values together tell whether they are numbers or categories


class Values(NamedTuple):
    """A column: the value of each row; or distinct values, and the number of the value of each row."""

    column: Column
    codes: Array | None = None

    def whole(self) -> Column:
        """Return the value of each row."""
        return self.column if self.codes is None else self.column.take(self.codes)


def values_in(table: Any, name: str, where: str, *, distinct: bool = False) -> Values:
    """Return a column of a pyarrow.Table; with `distinct`, text and dictionaries by their distinct values."""
    given, types = table.column(name), module("pyarrow.types")
    if given.type.id in plain() and not (given.null_count and types.is_integer(given.type)):
        return Values(Column(name, given.to_numpy()))  # NaN where values are missing
    declared = types.is_dictionary(given.type)
    if not distinct or not (declared or _is_text(given.type)):
        return Values(Column(name, *series_column(given, where)))
    array = (given if declared else given.dictionary_encode()).combine_chunks()
    if hasattr(array, "chunks"):
        array = array.chunk(0) if array.num_chunks else module().array([], array.type)
    items = [*array.dictionary.to_pylist(), None]
    codes = array.indices.cast("int64").fill_null(len(items) - 1).to_numpy()
    used = np.bincount(codes, minlength=len(items)) > 0  # a dictionary may have more values
    found = np.empty(int(used.sum()), dtype=object)
    found[:] = [item for item, there in zip(items, used.tolist(), strict=True) if there]
    return Values(Column(name, found, declared), (np.cumsum(used) - 1)[codes])


def filtered(table: Any, kept: npt.NDArray[np.bool_]) -> Any:
    """Return the rows of a pyarrow.Table that are kept."""
    return table if kept.all() else table.filter(module().array(kept))


def _is_text(kind: Any) -> bool:
    types = module("pyarrow.types")
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_of(kind) for is_of in (*tests, types.is_fixed_size_binary))


def kind_of_type(kind: Any) -> str | None:
    """Return the kind of columns of an Arrow type, or "text"; None for types that are refused."""
    types = module("pyarrow.types")
    if types.is_dictionary(kind):
        return "category"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_duration, types.is_time, types.is_null)
    return "number" if any(is_of(kind) for is_of in numbers) else TEXT if _is_text(kind) else None


def kinds_in(files: Files, names: tuple[str, ...], argument: str) -> dict[str, str]:
    """Return the kind of each column, or "text", by the types in the files.

    Raises
    ------
    TypeError
        If a column is of another type, such as lists, or its kinds differ between files.
    """
    found: dict[str, str] = {}
    for file in files.files:
        for name in names:
            kind = file.schema.field(name).type
            known = kind_of_type(kind)
            if known is None:
                raise TypeError(f"{argument}: {file.path} has {kind} in column {name!r}; {EXPECTED}")
            if module("pyarrow.types").is_null(kind):
                continue
            if found.setdefault(name, known) != known:
                raise TypeError(
                    f"{argument}: {file.path} has {kind} in column {name!r}; expected a {found[name]}, as in the files "
                    "before it"
                )
    return {name: found.get(name, "number") for name in names}
