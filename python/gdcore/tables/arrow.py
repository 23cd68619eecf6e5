"""Columns of Parquet files as those of a table: their kind, by their type in Arrow, and their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..internal.arrays import Array
from ..internal.frames import TIMES, series_column
from ..parquet.columns import plain
from ..parquet.files import Files, meaning, module
from .columns import EXPECTED, Column

__all__ = ["TEXT", "Values", "filtered", "kinds_in", "targets_in", "values_in"]

TEXT = "text"  # of which all values together tell whether they are numbers or categories
KIND_OF = {
    "categories": "category",
    "booleans": "boolean",
    "numbers": "number",
    "text": TEXT,
    **dict(zip(TIMES, ("date", "date", "number", "number"), strict=True)),
}


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


def targets_in(table: Any, name: str, encode: Callable[[Column | Array, str], Array], where: str) -> Array:
    """Return a column of targets as `encode` encodes it; each of its distinct values is encoded once."""
    values = values_in(table, name, where, distinct=True)
    try:
        found = encode(values.column, where)
    except (TypeError, ValueError):
        encode(values.whole(), where)  # names the row
        raise
    return found if values.codes is None else found[values.codes]


def filtered(table: Any, kept: npt.NDArray[np.bool_]) -> Any:
    """Return the rows of a pyarrow.Table that are kept."""
    return table if kept.all() else table.filter(module().array(kept))


def _is_text(kind: Any) -> bool:
    return meaning(kind) == "text"


def kinds_in(files: Files, names: tuple[str, ...], argument: str) -> dict[str, str]:
    """Return the kind of each column, or "text", by the types in the files.

    Raises
    ------
    TypeError
        If a column is of another type, such as lists, or its values mean different things in two files.
    """
    files.check_meanings(names, argument)
    found: dict[str, str] = {}
    for file in files.files:
        for name in names:
            kind = file.schema.field(name).type
            what = meaning(kind)
            if what is not None:
                found[name] = KIND_OF[what]
            elif not module("pyarrow.types").is_null(kind):
                raise TypeError(f"{argument}: {file.path} has {kind} in column {name!r}; {EXPECTED}")
    return {name: found.get(name, "number") for name in names}
