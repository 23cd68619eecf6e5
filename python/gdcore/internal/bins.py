"""Edges of bins of one column of numbers, for `PiecewiseLinear`: quantiles, or the splits of a small decision tree."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from .arrays import Array

__all__ = ["distinct_edges", "quantile_edges", "split_target", "tree_edges"]

MOST_CLASSES = 64  # distinct whole numbers up to which a target is taken for classes; columns of classes


def quantile_edges(values: Array, bins: int) -> Array:
    """Return the quantiles 0, 1/bins, ..., 1 of a column, shape (bins + 1,)."""
    edges: Array = np.quantile(values, np.linspace(0.0, 1.0, bins + 1))
    return edges


def distinct_edges(edges: Array, dtype: str) -> Array:
    """Return edges rounded to `dtype`, at least 2, without those that are equal or too close to divide by the width.

    A single value v becomes v and v + max(1, |v|).
    """
    rounded = np.unique(edges.astype(dtype))
    kept = [rounded[0]]
    for edge in rounded[1:]:
        if edge - kept[-1] >= np.finfo(dtype).tiny:
            kept.append(edge)
    if len(kept) == 1:
        wide = max(rounded.dtype.type(1), abs(kept[0]))
        kept = [kept[0], kept[0] + wide] if np.isfinite(kept[0] + wide) else [kept[0] - wide, kept[0]]
    return np.array(kept, dtype=dtype)


def split_target(y: object, rows: int) -> Array:
    """Return targets for `tree_edges`, shape (rows, outputs), with mean 0: numbers, or a column for each class.

    Of more than MOST_CLASSES classes, the most frequent have a column.

    Raises
    ------
    ValueError
        If their number is not `rows`, or one is NaN or infinite.
    """
    array = np.asarray(y)
    if array.ndim not in (1, 2) or len(array) != rows:
        raise ValueError(
            f"y: got shape {array.shape}; expected ({rows},) or ({rows}, outputs), a row for each row of x"
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind not in "fc":
        text = array.astype(str) if array.dtype.kind == "O" else array
        classes, codes, counts = np.unique(text, return_inverse=True, return_counts=True)
        if array.dtype.kind not in "iu" or len(classes) <= MOST_CLASSES:
            frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
            array = (codes[:, None] == frequent).astype(np.float64)
    numbers = array.astype(np.float64).reshape(rows, -1)
    if not np.isfinite(numbers).all():
        raise ValueError("y: got NaN or infinity; expected finite numbers or classes, none of them missing")
    centred: Array = numbers - numbers.mean(axis=0)
    return centred


class _Sorted(NamedTuple):
    """A column in increasing order, and the sums of the targets of the rows before each position."""

    values: Array
    sums: Array  # (rows + 1, outputs)


def tree_edges(values: Array, target: Array, bins: int, min_rows: int) -> Array:
    """Return the least value, the splits of a tree with at most `bins` leaves, and the largest value.

    The tree predicts `target` (rows, outputs) from the column by least squares. The leaf whose best split reduces the
    squared error most is split first; each leaf has at least `min_rows` rows.
    """
    order = np.argsort(values, kind="stable")
    data = _Sorted(values[order], np.concatenate([np.zeros((1, target.shape[1])), np.cumsum(target[order], axis=0)]))
    total = float(np.square(target).sum())
    leaves: list[tuple[float, int, int, int]] = []  # minus the gain, the rows [begin, end), the split

    def push(begin: int, end: int) -> None:
        gain, at = _best_split(data, begin, end, min_rows)
        if gain > 1e-12 * total:
            heapq.heappush(leaves, (-gain, begin, end, at))

    push(0, len(values))
    splits: list[float] = []
    while leaves and len(splits) + 1 < bins:
        _, begin, end, at = heapq.heappop(leaves)
        splits.append((data.values[at - 1] + data.values[at]) / 2)
        push(begin, at)
        push(at, end)
    return np.array([data.values[0], *sorted(splits), data.values[-1]])


def _best_split(data: _Sorted, begin: int, end: int, min_rows: int) -> tuple[float, int]:
    """Return the largest reduction of the squared error by splitting the rows [begin, end), and the first row after."""
    first, last = begin + min_rows, end - min_rows  # possible splits
    if last < first:
        return 0.0, begin
    at = np.arange(first, last + 1)
    at = at[data.values[at - 1] < data.values[at]]
    if not len(at):
        return 0.0, begin
    whole = data.sums[end] - data.sums[begin]
    left = data.sums[at] - data.sums[begin]
    gain = np.square(left).sum(axis=1) / (at - begin) + np.square(whole - left).sum(axis=1) / (end - at)
    best = int(np.argmax(gain))
    return float(gain[best] - np.square(whole).sum() / (end - begin)), int(at[best])
