"""Types of the columns of text files: chosen by the values for training, by the model for everything after it.

All cells are read as text, so that the type of a column never depends on the part of a file that is read first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..internal.checks import optional_module, shown
from ..internal.looks import CODE, DATES, ISO_DATE, NUMBER, WITH_COMMA, WITH_THOUSANDS, WITH_UNIT

__all__ = ["MISSING", "advice", "as_kind", "code_in", "guessed", "refuse_infinite", "refuse_missing"]

# Cells that stand for a missing value.
MISSING = ("", "#N/A", "#NA", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
# Types that are tried for the values of a kind, in this order.
TRIED: dict[str, tuple[str, ...]] = {
    "number": ("int64", "float64"),
    "boolean": ("bool",),
    "date": ("date", "zoned date"),
    "text": ("string",),
}
# What cells look like that are no numbers or dates for `guessed`, most of the values of a column, beside numbers.
LOOKS = (
    *((pattern, "for dates, write them as 2026-03-01") for pattern in DATES),
    (ISO_DATE, "for dates, write all as 2026-03-01, leave a cell empty that has none"),
    (WITH_COMMA, "for numbers with a decimal comma, say --decimal ,"),
    (WITH_THOUSANDS, "for numbers, write no signs between thousands"),
    (WITH_UNIT, "for numbers, write them without a unit"),
)
EXPECTED = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2026-03-01 or 2026-03-01 12:30:00, with a time zone in all rows or in none",
}


def guessed(text: Any, decimal: str = ".") -> Any:
    """Return a column of text as numbers, booleans or dates if all its values are such, otherwise as text.

    Digits with zeros in front, such as "00730", are text: numbers would lose the zeros.

    Parameters
    ----------
    text : pyarrow.ChunkedArray
        The cells.
    decimal : str
        The sign before the fraction of a number.
    """
    known = _known(text)
    if code_in(known, decimal):
        return known
    for kind in ("number", "boolean", "date"):
        found = _cast(known, kind, decimal)
        if found is not None:
            return found
    return known


def as_kind(text: Any, kind: str, where: str, *, decimal: str = ".", first: int = 0) -> Any:
    """Return a column of text as the values of a kind.

    Parameters
    ----------
    text : pyarrow.ChunkedArray
        The cells.
    kind : {"number", "boolean", "date", "text"}
        What they must be.
    where : str
        The file and the column, for the message.
    decimal : str
        The sign before the fraction of a number.
    first : int
        Number of the first row.

    Raises
    ------
    ValueError
        If a cell is something else; the message has its row, counted from 1 below the header.
    """
    known = _known(text)
    found = _cast(known, kind, decimal)
    if found is not None:
        return found
    pyarrow = optional_module("pyarrow", "reading a table", "gdcore[cli]")
    for row, cell in enumerate(known.to_pylist()):
        if _cast(pyarrow.chunked_array([[cell]], pyarrow.string()), kind, decimal) is None:
            raise ValueError(f"{where}: got {shown(cell)} in row {first + row + 1}; expected {EXPECTED[kind]}")
    raise ValueError(f"{where}: got dates with and without a time zone; expected {EXPECTED[kind]}")


def refuse_infinite(column: Any, where: str, first: int = 0) -> None:
    """Raise ValueError if a number of a column is infinite; the message has its row, counted from 1."""
    compute = optional_module("pyarrow.compute", "reading a table", "gdcore[cli]")
    if str(column.type) not in ("float", "double"):
        return
    infinite = compute.is_inf(column)
    if compute.any(infinite).as_py():
        row = infinite.to_pylist().index(True)
        got = "inf" if column[row].as_py() > 0 else "-inf"
        raise ValueError(f"{where}: got {got} in row {first + row + 1}; expected finite numbers, or missing values")


def refuse_missing(column: Any, where: str, first: int | None = None) -> None:
    """Raise ValueError if a value is missing in the column that is predicted, or in that of weights.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        The values.
    where : str
        The file and the column, for the message.
    first : int, optional
        Number of the first row, where the rows are not all.
    """
    gone = column.is_null(nan_is_null=True).to_pylist()
    if any(gone):
        row = gone.index(True) + 1
        rows = f"in {sum(gone):,} of {len(column):,} rows, the first in row {row}"
        raise ValueError(
            f"{where}: has no value {rows if first is None else f'in row {first + row}'}; expected one in each row: "
            "leave out the others"
        )


def advice(text: Any, decimal: str = ".") -> str:
    """Return what to do where at least half of the cells of a column of text look like numbers or dates; else "".

    Parameters
    ----------
    text : pyarrow.ChunkedArray
        The column, as `guessed` has returned it.
    decimal : str
        The sign before the fraction of a number.
    """
    compute = optional_module("pyarrow.compute", "reading a table", "gdcore[cli]")
    known = compute.utf8_trim_whitespace(text.drop_null())
    if code := code_in(known, decimal):
        return f"taken as categories, as values have zeros in front, such as {shown(code)}; --kind sets another kind"
    number = NUMBER.replace("{decimal}", re.escape(decimal))
    for pattern, what in ((number, "for numbers, leave a cell empty that has none"), *LOOKS):
        like = compute.match_substring_regex(known, f"^({pattern})$")
        count = compute.sum(like).as_py() or 0
        if count >= max(0.5 * len(known), 2):
            cell = shown(known.filter(like)[0].as_py())
            other = "" if count == len(known) else f", but not {shown(known.filter(compute.invert(like))[0].as_py())}"
            many = f"all {count:,}" if not other else f"{count:,} of {len(known):,}"
            return f"taken as categories, as {many} values look like {cell}{other}; {what}"
    return ""


def code_in(text: Any, decimal: str) -> str:
    """Return a value that is digits with zeros in front, if all values are numbers and there is one; else ""."""
    compute = optional_module("pyarrow.compute", "reading a table", "gdcore[cli]")
    trimmed = compute.utf8_trim_whitespace(text.drop_null())
    codes = trimmed.filter(compute.match_substring_regex(trimmed, f"^({CODE})$"))
    return str(codes[0].as_py()) if len(codes) and _cast(text, "number", decimal) is not None else ""


def _known(text: Any) -> Any:
    """Return the cells, those that stand for a missing value as null."""
    pyarrow = optional_module("pyarrow", "reading a table", "gdcore[cli]")
    compute = optional_module("pyarrow.compute", "reading a table", "gdcore[cli]")
    gone = compute.is_in(compute.utf8_trim_whitespace(text), value_set=pyarrow.array(MISSING))
    return compute.if_else(gone, pyarrow.scalar(None, pyarrow.string()), text)


def _cast(known: Any, kind: str, decimal: str) -> Any:
    """Return cells of `_known` as values of a kind, None if one of them is something else."""
    pyarrow = optional_module("pyarrow", "reading a table", "gdcore[cli]")
    compute = optional_module("pyarrow.compute", "reading a table", "gdcore[cli]")
    if kind == "text":
        return known
    known = compute.utf8_trim_whitespace(known)
    if kind == "number" and decimal != ".":  # a point would be a sign between thousands: 1.234 is no number then
        known = compute.replace_substring(compute.replace_substring(known, ".", " "), decimal, ".")
    types = {"date": pyarrow.timestamp("us"), "zoned date": pyarrow.timestamp("us", "UTC"), "bool": pyarrow.bool_()}
    tried: Sequence[str] = TRIED[kind] if known.null_count < len(known) or kind != "number" else ("float64",)
    for name in tried:
        try:
            return compute.cast(known, types.get(name) or name)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
            continue
    return None
