"""A warning of columns of text that look like dates, as readers of files leave them: they become categories."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable

from .columns import DATES, Column, missing

__all__ = ["ROWS", "warn_of_text_dates"]

# Of ISO 8601, as others are ambiguous, with or without a time of day.
DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}.*)?\s*")
ROWS, LEAST = 1000, 0.9  # that are looked at; share of their values that look like dates


def warn_of_text_dates(columns: Iterable[Column], decided: Collection[str], stacklevel: int) -> None:
    """Warn of the columns of text that look like dates, except those whose kind has been decided, in one warning.

    It has no value of the column, so that Python shows it once for all folds of a cross-validation. `stacklevel` counts
    from here, as that of `warnings.warn` does.
    """
    found = [column.name for column in columns if column.name not in decided and _looks_like_dates(column)]
    if found:
        name, more = found[0], "" if len(found) == 1 else f" (and {len(found) - 1} more)"
        warnings.warn(
            f"column {name!r}{more} has text that looks like dates, and becomes categories; for dates {DATES}; "
            f"kinds={{{name!r}: 'category'}} keeps it without this warning",
            stacklevel=stacklevel,
        )


def _looks_like_dates(column: Column) -> bool:
    values = column.values[:ROWS]
    if column.declared or values.dtype.kind not in "OU":
        return False
    known = [item for item in values[~missing(values)].tolist() if not isinstance(item, str) or item.strip()]
    like = sum(isinstance(item, str) and DATE.fullmatch(item) is not None for item in known)
    return bool(known) and like >= LEAST * len(known)
