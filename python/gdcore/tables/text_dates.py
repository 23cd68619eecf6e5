"""A warning of columns of text that look like dates, as readers of files leave them: they become categories."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection

from ..internal.checks import shown
from .columns import Column, Frame, conversion, missing

__all__ = ["warn_of_text_dates"]

# Of ISO 8601, as others are ambiguous, with or without a time of day.
DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}.*)?\s*")
ROWS, LEAST = 1000, 0.9  # that are looked at; share of their values that look like dates


def warn_of_text_dates(frame: Frame, decided: Collection[str]) -> None:
    """Warn of the columns of text that look like dates, except those whose kind has been decided, in one warning."""
    found = {column.name: _example(column) for column in frame.columns if column.name not in decided}
    dates = [name for name, example in found.items() if example]
    if dates:
        first, more = dates[0], "" if len(dates) == 1 else f" and {len(dates) - 1} more"
        warnings.warn(
            f"column {first!r}{more}: text such as {shown(found[first])} looks like dates, and becomes categories; "
            f"{conversion(first)} makes dates of it, kinds={{{first!r}: 'category'}} keeps it without this warning",
            stacklevel=4,
        )


def _example(column: Column) -> str:
    """Return a value of a column of text that looks like dates; "" for other columns."""
    values = column.values[:ROWS]
    if column.declared or values.dtype.kind not in "OU":
        return ""
    known = values[~missing(values)].tolist()
    like = [item for item in known if isinstance(item, str) and DATE.fullmatch(item)]
    return like[0] if like and len(like) >= LEAST * len(known) else ""
