"""The arguments of `TabularModel.fit`, read and checked: the table, its targets, weights, groups and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..internal.arrays import Array, to_weights
from ..internal.frames import is_series
from .columns import Column, Frame, read, read_column
from .splitting import Rows, group_codes, time_order
from .targets import read_target

__all__ = ["Given", "checked_weights", "same_length"]


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
        taken: dict[str, Column] = {}
        values: dict[str, Any] = {"y": y, "sample_weight": sample_weight, "groups": groups, "time": time}
        for argument, value in values.items():
            if isinstance(value, str):
                taken[argument] = frame.column(value, f"{name}{argument}")
        ignored = [taken[argument].name for argument in ("y", "sample_weight", "groups") if argument in taken]
        for column in dict.fromkeys((*ignored, *(also or ()))):
            if column in frame.names:
                frame = frame.without(column)[1]
        if not frame.columns:
            raise ValueError(f"{name}x: got 0 feature(s) (shape=({frame.rows}, 0)) while a minimum of 1 is required.")
        target = read_target(taken.get("y", y), f"{name}y")
        _refuse_as_input(y, target, frame, name)
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
            target = target.take(rows) if isinstance(target, Column) else target[rows]
            weights = None if weights is None else weights[rows]
            grouped = None if grouped is None else grouped.take(rows)
            timed = None if timed is None else timed.take(rows)
        if frame.rows < (2 if also is None else 1):
            raise ValueError(f"{name}x: got {frame.rows} sample(s) of positive weight; expected at least two rows")
        codes = None if grouped is None else group_codes(grouped, "groups")
        moments = None if timed is None else time_order(timed, "time")
        name_of = taken["y"].name if "y" in taken else None
        return cls(frame, target, weights, codes, moments, name_of, tuple(ignored))


def _refuse_as_input(y: Any, target: Column | Array, frame: Frame, name: str) -> None:
    """Raise ValueError if the target is a series whose name and values are those of an input."""
    label = str(getattr(y, "name", None))
    if not is_series(y) or not isinstance(target, Column) or not frame.named or label not in frame.names:
        return
    if np.array_equal(frame.without(label)[0].values, target.values):
        raise ValueError(
            f"{name}y: got column {label!r} of {name}x, which would be an input too; expected its name, y={label!r}, "
            f"or {name}x without it"
        )


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
