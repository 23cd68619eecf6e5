"""Validation rows of a table: drawn at random, class by class, whole groups, or the last ones in time."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..data import split_rows
from ..internal.arrays import Array
from ..internal.checks import shown
from ..internal.frames import first_of
from .columns import DATES, Column, kind_of, missing
from .values import dates_of, keys_of, meaning_of, numbers_of

__all__ = [
    *("Rows", "folds", "folds_of_groups", "group_codes", "groups_held_out", "incomplete", "last_moments", "moments_of"),
    *("split", "time_order"),
]

Rows: TypeAlias = npt.NDArray[np.int64]


def group_codes(column: Column, name: str) -> Rows:
    """Return the group of each row as a number from 0.

    Raises
    ------
    ValueError
        If a group is missing, or all rows are of one group.
    """
    if missing(column.values).any():
        raise incomplete(column, name, "groups")
    if column.values.dtype.kind in "mM":
        codes = np.unique(column.values, return_inverse=True)[1]
    else:
        index: dict[object, int] = {}
        codes = np.array([index.setdefault(key, len(index)) for key in keys_of(column, name)], np.int64)
    if len(codes) and codes.max() == 0:
        raise ValueError(f"{name}: got one group, {shown(first_of(column.values))}; expected at least two")
    return codes.astype(np.int64)


def time_order(column: Column, name: str) -> Array:
    """Return the time of each row as `moments_of` does; raise ValueError if all are the same."""
    times = moments_of(column, name)
    if len(times) and times.min() == times.max():
        raise ValueError(f"{name}: got one time, {shown(first_of(column.values))}, in all rows; expected others too")
    return times


def moments_of(column: Column, name: str) -> Array:
    """Return the time of each row as a number: dates, or numbers as they are.

    Raises
    ------
    TypeError
        If times are neither dates nor numbers, or some have a time zone.
    ValueError
        If one is missing.
    """
    if missing(column.values).any():
        raise incomplete(column, name, "a time in each row")
    kind = kind_of(column, name)
    if kind in ("date", "number"):
        meaning_of(column, name)  # which refuses two of them
    else:
        raise TypeError(f"{name}: got {shown(first_of(column.values))}; expected dates or numbers: {DATES}")
    return dates_of(column, name)[0] if kind == "date" else numbers_of(column, name)


def incomplete(column: Column, name: str, expected: str) -> ValueError:
    """Return the error for a column with a missing value."""
    row = int(np.argmax(missing(column.values)))
    return ValueError(f"{name}: got a missing value in row {row}; expected {expected}")


def split(
    rows: int,
    share: float,
    seed: int,
    labels: Array | None = None,
    groups: Rows | None = None,
    time: Array | None = None,
) -> tuple[Rows, Rows]:
    """Return the training and the validation rows, each in ascending order, both of at least one row.

    Parameters
    ----------
    rows : int
        Number of rows, at least 2.
    share : float
        Share of validation rows.
    seed : int
        Seed of the draw.
    labels : array, optional
        Class of each row, from 0; each class is divided in the same proportion, and keeps a row for training.
    groups : array, optional
        Group of each row; a group is not divided. Groups are drawn until they have the share of the rows.
    time : array, optional
        Time of each row; the last rows are taken, all of them later than every training row.
    """
    if time is not None:
        return _parts(time >= last_moments(time, share))
    if groups is not None:
        return _parts(groups_held_out(np.bincount(groups), share, seed)[groups])
    most = rows - (1 if labels is None else int((np.bincount(labels) > 0).sum()))
    return split_rows(rows, min(max(round(rows * share), 1), most) / rows, seed, labels, name="validation")


def folds(
    rows: int, count: int, seed: int, labels: Array | None = None, groups: Rows | None = None
) -> list[tuple[Rows, Rows]]:
    """Return training and validation rows for each fold of a cross-validation; each row is held out once.

    A row that is the only one of its class is never held out: a network that does not know the class predicts another.

    Parameters
    ----------
    rows, seed, labels, groups
        As for `split`. Folds of groups are filled with the largest groups first, each into the smallest fold.
    count : int
        Folds, as many as there are rows or groups at most.
    """
    if groups is not None:
        fold = folds_of_groups(np.bincount(groups), count, seed)[groups]
        return [_parts(fold == i) for i in range(fold.max() + 1)]
    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]  # each fold takes every count-th row of a class
        order = order[(np.bincount(labels) > 1)[labels[order]]]
    count, fold = min(count, len(order)), np.full(rows, -1)
    fold[order] = np.arange(len(order)) % max(count, 1)
    return [_parts(fold == i) for i in range(count)]


def last_moments(time: Array, share: float) -> Any:
    """Return the first of the last times, which have a share of the rows; times are not all the same."""
    moments, rows = np.sort(time), len(time)
    last = moments[min(max(round(rows * (1 - share)), 1), rows - 1)]
    return last if last > moments[0] else moments[moments > moments[0]][0]


def groups_held_out(sizes: Rows, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return whether each group is held out, from their numbers of rows; at least one is, and one is not."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    taken = np.searchsorted(np.cumsum(sizes[order]), sizes.sum() * share) + 1
    held = np.zeros(len(sizes), np.bool_)
    held[order[: min(taken, len(sizes) - 1)]] = True
    return held


def folds_of_groups(sizes: Rows, count: int, seed: int) -> Rows:
    """Return the fold of each group, from their numbers of rows."""
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, fold = np.zeros(min(count, len(sizes)), np.int64), np.zeros(len(sizes), np.int64)
    for group in order:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold


def _parts(held: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Return the rows that are not held out, and those that are."""
    return np.flatnonzero(~held), np.flatnonzero(held)
