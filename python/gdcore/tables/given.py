"""The arguments of `TabularModel.fit`, read and checked: the table, its targets, weights, groups and times."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..internal.arrays import Array, to_weights, with_names
from ..internal.checks import shown, suggestion
from ..internal.features import refuse_duplicates
from ..internal.frames import is_frame, is_series
from .columns import Column, Frame, missing, read, read_column
from .splitting import Rows, group_codes, time_order
from .targets import read_target
from .values import numbers_of

__all__ = ["Given", "checked_weights", "names_in", "numbers_in", "same_length", "too_few"]


@dataclass(frozen=True)
class Given:
    """Rows of a table that have a positive weight.

    Attributes
    ----------
    frame : Frame
        The inputs.
    y : Column or ndarray
        The targets.
    weights, groups, time : ndarray or None
        Weight, number of the group, and time of each row.
    target : str or None
        The column of the table that is the target, if it is one.
    ignored : tuple of str
        Columns of the table that are no inputs.
    """

    frame: Frame
    y: Column | Array
    weights: Array | None
    groups: Rows | None
    time: Array | None
    target: str | None
    ignored: tuple[str, ...]

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any,
        sample_weight: Any,
        groups: Any = None,
        time: Any = None,
        *,
        name: str = "",
        also: tuple[str, ...] | None = None,
    ) -> Self:
        """Return the arguments of a call; `name` precedes theirs in messages.

        `also` are columns that are no inputs of other rows of the same table, and are ignored here too.
        """
        frame = read(x, f"{name}x")
        several = names_in(y, frame, f"{name}y")
        y, several = (several[0], []) if len(several) == 1 else (y, several)
        taken: dict[str, Column] = {}
        values: dict[str, Any] = {"y": y, "sample_weight": sample_weight, "groups": groups, "time": time}
        for argument, value in values.items():
            if isinstance(value, str):
                taken[argument] = frame.column(value, f"{name}{argument}")
        ignored = [taken[argument].name for argument in ("y", "sample_weight", "groups") if argument in taken]
        if several:
            y = numbers_in(frame, several, f"{name}y")
            ignored += several
        for argument in ("sample_weight", "groups", "time"):
            if names_in(values[argument], frame, f"{name}{argument}"):
                raise ValueError(f"{name}{argument}: got {shown(values[argument])}; expected the name of one column")
        for column in dict.fromkeys((*ignored, *(also or ()))):
            if column in frame.names:
                frame = frame.without(column)[1]
        if not frame.columns:
            raise ValueError(f"{name}x: got 0 feature(s) (shape=({frame.rows}, 0)) while a minimum of 1 is required.")
        target = read_target(taken.get("y", y), f"{name}y")
        _refuse_as_input(y, frame, name)
        same_length(f"{name}y", len(target.values if isinstance(target, Column) else target), frame.rows)

        def column_of(argument: str) -> Column | None:
            if values[argument] is None:
                return None
            found = taken.get(argument) or read_column(values[argument], f"{name}{argument}")
            same_length(f"{name}{argument}", len(found.values), frame.rows)
            return found

        weighted, grouped, timed = column_of("sample_weight"), column_of("groups"), column_of("time")
        if grouped is not None and timed is not None:
            raise ValueError("time: got times beside groups; expected one of the two")
        weights = None if weighted is None else checked_weights(weighted.values, f"{name}sample_weight")
        rows = None if weights is None or (weights > 0).all() else np.flatnonzero(weights > 0)
        if rows is not None:
            frame = frame.take(rows)
            if isinstance(target, Column):
                target = target.take(rows)
            else:
                target = with_names(target[rows], getattr(target, "names", None))
            weights = None if weights is None else weights[rows]
            grouped = None if grouped is None else grouped.take(rows)
            timed = None if timed is None else timed.take(rows)
        if frame.rows < (2 if also is None else 1):
            raise too_few(frame.rows, rows is not None, f"{name}x")
        codes = None if grouped is None else group_codes(grouped, "groups")
        moments = None if timed is None else time_order(timed, "time")
        name_of = taken["y"].name if "y" in taken else None
        return cls(frame, target, weights, codes, moments, name_of, tuple(ignored))


def names_in(value: Any, frame: Frame, argument: str, *, numbers: bool = False) -> list[str]:
    """Return a list of names of columns; an empty one for all else, such as a list with a value for each row.

    `numbers` says that values would be numbers, so that names are none.

    Raises
    ------
    ValueError
        If some are names of columns and others are not, or two are the same.
    """
    if isinstance(value, (str, Mapping, Set)) or not hasattr(value, "__len__") or is_frame(value) or not frame.named:
        return []
    if (len(value) == frame.rows and not numbers) or not 0 < len(value) <= len(frame.columns):
        return []
    names = list(value)
    unknown = [name for name in names if not isinstance(name, str) or name not in frame.names]
    if len(unknown) == len(names):
        return []
    if unknown:
        raise ValueError(
            f"{argument}: got the name {shown(unknown[0])}; expected columns of x"
            f"{suggestion(str(unknown[0]), frame.names)}"
        )
    refuse_duplicates(tuple(names), argument)
    return [str(name) for name in names]


def numbers_in(frame: Frame, names: list[str], argument: str) -> Array:
    """Return columns of numbers, float64 (rows, K); raise TypeError for text."""
    columns = [frame.without(name)[0] for name in names]
    found = np.column_stack([numbers_of(column, f"{argument}: column {column.name!r}") for column in columns])
    return with_names(found, tuple(names))


def _refuse_as_input(y: Any, frame: Frame, name: str) -> None:
    """Raise ValueError if a target is a series, or a column of a frame, whose name and values are those of an input."""
    if not frame.named or not (is_series(y) or is_frame(y)):
        return
    columns = read(y, f"{name}y").columns if is_frame(y) else (read_column(y, str(getattr(y, "name", None))),)
    for column in columns:
        if column.name in frame.names and _same(frame.without(column.name)[0].values, column.values):
            names = shown([each.name for each in columns], 200) if is_frame(y) else repr(column.name)
            raise ValueError(
                f"{name}y: got column {column.name!r} of {name}x, which would be an input too; expected its name, "
                f"y={names}, or {name}x without it"
            )


def _same(first: Array, second: Array) -> bool:
    """Return whether two columns have the same values, and the same missing ones."""
    gone = missing(first)
    return np.array_equal(gone, missing(second)) and np.array_equal(first[~gone], second[~gone])


def checked_weights(values: Any, name: str) -> Array:
    """Return weights of rows as float64; raise ValueError if one is negative or not finite."""
    weights = to_weights(values, name).astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{name}: got {weights[row]} in row {row}; expected finite weights of at least 0")
    return weights


def same_length(name: str, rows: int, expected: int) -> None:
    """Raise ValueError unless an argument has as many rows as the table."""
    if rows != expected:
        raise ValueError(f"{name}: got {rows} rows; expected {expected}, the number of samples of x")


def too_few(rows: int, weighted: bool, name: str) -> ValueError:
    """Return the error for fewer than two rows; scikit-learn demands the word "sample"."""
    weights = " of positive weight" if weighted else ""
    return ValueError(f"{name}: got {rows} sample{'' if rows == 1 else 's'}{weights}; expected at least two rows")
