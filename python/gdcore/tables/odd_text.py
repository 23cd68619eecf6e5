"""Warnings of columns of text that look like dates or numbers, as readers of files leave them, but are categories."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable

from ..internal import looks
from .columns import DATES, MANY, Column, as_float, is_number, missing

__all__ = ["ROWS", "warn_of_odd_text"]

DATE = re.compile("|".join((looks.ISO_DATE, *looks.DATES)), re.ASCII)
NUMBER = re.compile("|".join(looks.NUMBERS), re.ASCII)
ROWS, LEAST = 1000, 0.9  # that are looked at; share of their values that look alike
WHAT_TO_DO = {
    "dates": f"for dates {DATES}",
    "codes with zeros in front": "kinds={name: 'number'} makes numbers of it",
    "numbers": "make numbers of it first (pandas.read_csv has decimal=, thousands= and na_values=)",
}


def warn_of_odd_text(columns: Iterable[Column], decided: Collection[str], stacklevel: int) -> None:
    """Warn of the columns of text that look like one of `WHAT_TO_DO`, except those whose kind has been decided.

    A warning for each of these has no value of a column, so that Python shows it once for all folds of a
    cross-validation. `stacklevel` counts from here, as that of `warnings.warn` does.
    """
    found: dict[str, list[str]] = {what: [] for what in WHAT_TO_DO}
    for column in columns:
        what = "" if column.name in decided else _looks_like(column)
        if what:
            found[what].append(column.name)
    for what, names in found.items():
        if names:
            name, more = names[0], "" if len(names) == 1 else f" (and {len(names) - 1} more)"
            warnings.warn(
                f"column {name!r}{more} has text that looks like {what}, and becomes categories; {WHAT_TO_DO[what]}; "
                f"kinds={{{name!r}: 'category'}} keeps it without this warning",
                stacklevel=stacklevel,
            )


def _looks_like(column: Column) -> str:
    """Return one of `WHAT_TO_DO`, or "".

    Numbers as Python writes them count only where more than 30 values differ: fewer are categories.
    """
    values = column.values[:ROWS]
    if column.declared or values.dtype.kind not in "OU":
        return ""
    known = [item for item in values[~missing(values)].tolist() if not isinstance(item, str) or item.strip()]
    text = [item.strip() for item in known if isinstance(item, str)]
    if not text:
        return ""
    if sum(DATE.fullmatch(item) is not None for item in text) >= LEAST * len(known):
        return "dates"
    plain = sum(as_float(item) is not None for item in text)
    odd = sum(NUMBER.fullmatch(item) is not None and as_float(item) is None for item in text)
    many = len(set(text)) > MANY
    if many and plain == len(known):
        return "" if all(map(is_number, text)) else "codes with zeros in front"
    return "numbers" if odd + (plain if many else 0) >= LEAST * len(known) else ""
